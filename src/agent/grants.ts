// What the network's home domain granted the other nodes, kept in the agent's state, and what of each node's prefixes is
// let in by it. Where everyone of the domain is admitted, that is all of them. What is accepted and when it ends is decided
// in native-free/admission/grant-book.ts.

import type { Logger } from 'pino';
import type { VerifyGrant } from '../../native-free/admission/grant.ts';
import { GrantBook, type Granted } from '../../native-free/admission/grant-book.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { savedGrants } from '../../native-free/reconcile/saved-grants.ts';
import type { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import { foreignDomainOf } from '../../native-free/registry/foreign-key.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import type { Clock } from './clock.ts';

export interface GrantsDeps {
  readonly state: DocumentStore;
  readonly saved: Pick<SavedNetwork, 'name' | 'document'>;
  /** The trust domain whose the network is. */
  readonly home: string;
  /** Of that domain. */
  readonly verifyGrant: VerifyGrant;
  readonly clock: Pick<Clock, 'moment'>;
  readonly logger: Pick<Logger, 'warn'>;
}

export class Grants {
  readonly #deps: GrantsDeps;
  readonly #book: GrantBook;

  constructor(deps: GrantsDeps) {
    const { state, saved, home, verifyGrant, clock, logger } = deps;
    const { name: network, uid: networkUid } = saved.document;
    this.#deps = deps;
    this.#book = new GrantBook(
      { network, networkUid, home },
      {
        saved: savedGrants(state, saved.name),
        verify: verifyGrant,
        report: (node, reason) => logger.warn({ network: saved.name, node, reason }, 'grant refused'),
      },
      clock.moment(),
    );
  }

  /**
   * Of a node, as the home calls it. One of another domain has what is granted, and that is never the whole; one whose prefixes a
   * signer apart leases has no others, whatever the registry says.
   */
  of(node: string, isLeased: boolean): Granted {
    const { saved, clock } = this.#deps;
    if (isLeased) return this.#book.of(node, clock.moment(), true);
    return saved.document.isRestricted || foreignDomainOf(node) !== undefined
      ? this.#book.of(node, clock.moment())
      : 'whole';
  }

  /** By a signer apart. */
  leased(node: string): readonly Prefix[] {
    return this.#book.leased(node, this.#deps.clock.moment());
  }

  accept(node: string, signed: SignedRecord): void {
    this.#book.accept(node, signed, this.#deps.clock.moment());
  }

  /** True when something is granted otherwise than before. Cheap otherwise. */
  retry(): boolean {
    return this.#book.retry(this.#deps.clock.moment());
  }

  /** Another bundle holds for the home. True when something is granted otherwise. */
  trustChanged(): boolean {
    return this.#book.trustChanged();
  }

  /** Those that matter. */
  get refusals(): [node: string, reason: string][] {
    return [...this.#book.refusals].filter(
      ([node]) => this.#deps.saved.document.isRestricted || foreignDomainOf(node) !== undefined,
    );
  }

  clear(): void {
    this.#book.clear();
  }
}
