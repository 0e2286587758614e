// What the network's home domain granted the other nodes, kept in the agent's state, and what of each node's prefixes is
// let in by it. Where everyone of the domain is admitted, that is all of them. What is accepted and when it ends is decided
// in native-free/admission/grant-book.ts.

import type { Logger } from 'pino';
import type { VerifyGrant } from '../../native-free/admission/grant.ts';
import { GrantBook, type Granted } from '../../native-free/admission/grant-book.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { GRANT } from '../../native-free/reconcile/documents.ts';
import type { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import type { Clock } from './clock.ts';

export interface GrantsDeps {
  readonly state: DocumentStore;
  readonly saved: Pick<SavedNetwork, 'name' | 'document'>;
  readonly verifyGrant: VerifyGrant;
  readonly clock: Pick<Clock, 'moment'>;
  readonly logger: Pick<Logger, 'warn'>;
}

export class Grants {
  readonly #deps: GrantsDeps;
  readonly #book: GrantBook;

  constructor(deps: GrantsDeps) {
    const { state, saved, verifyGrant, clock, logger } = deps;
    const network = saved.name;
    this.#deps = deps;
    this.#book = new GrantBook(
      { network, networkUid: saved.document.uid },
      {
        saved: savedGrants(state, `${network}/`),
        verify: verifyGrant,
        report: (node, reason) => logger.warn({ network, node, reason }, 'grant refused'),
      },
      clock.moment(),
    );
  }

  /** Of a node of the home domain. */
  of(node: string): Granted {
    const { saved, clock } = this.#deps;
    return saved.document.isRestricted ? this.#book.of(node, clock.moment()) : 'whole';
  }

  accept(node: string, signed: SignedRecord): void {
    this.#book.accept(node, signed, this.#deps.clock.moment());
  }

  /** True when something is granted otherwise than before. Cheap otherwise. */
  retry(): boolean {
    return this.#book.retry(this.#deps.clock.moment());
  }

  get refusals(): ReadonlyMap<string, string> {
    return this.#deps.saved.document.isRestricted ? this.#book.refusals : new Map();
  }

  clear(): void {
    this.#book.clear();
  }
}

const savedGrants = (state: DocumentStore, start: string) => ({
  list: () =>
    state
      .list(GRANT)
      .filter(({ name }) => name.startsWith(start))
      .map(({ name, value: { grant, signature, certificateChain, acceptedAt } }) => ({
        node: name.slice(start.length),
        signed: {
          record: fromBase64(grant),
          signature: fromBase64(signature),
          certificateChain: certificateChain.map(fromBase64),
        },
        acceptedAt,
      })),
  put: (
    node: string,
    { record, signature, certificateChain }: SignedRecord,
    acceptedAt: { bootId: string; boot: number; wall: number },
  ) =>
    state.put(GRANT, start + node, {
      grant: toBase64(record),
      signature: toBase64(signature),
      certificateChain: certificateChain.map(toBase64),
      acceptedAt,
    }),
  delete: (node: string) => state.delete(GRANT, start + node),
});
