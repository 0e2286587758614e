// What this node's domain says of itself, as it was heard last: which CAs speak for it, who was revoked, and, where its
// signer is apart, which CAs speak for its partners. It is signed, so that a registry can keep it from a node and not change
// it, and never goes back, also over restarts.

import type { Logger } from 'pino';
import type { VouchedPartner } from '../../native-free/ca/statement.ts';
import type { DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { DOMAIN_STATEMENT } from '../../native-free/reconcile/documents.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { fromConnectError } from '../api/errors.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { bundleOfStatement, revocationsOf, verifyStatement } from '../identity/domain-statement.ts';
import type { DomainClient } from '../registry/client.ts';
import type { Clock } from './clock.ts';

const CALL_TIMEOUT_MS = 10_000;

export interface HeardStatementDeps {
  readonly state: Pick<DocumentStore, 'get' | 'put'>;
  readonly clock: Pick<Clock, 'wall' | 'monotonic'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
}

/** A partner's CAs, and from when on they count no more (unix ms). */
export interface Vouched {
  readonly bundle: TrustBundle;
  readonly until: number;
}

export class HeardStatement {
  readonly #deps: HeardStatementDeps;
  readonly #reasons = new RepeatedReasons();
  #sequence: number;
  #revoked: ReadonlyMap<string, number>;
  #partners: ReadonlyMap<string, Vouched>;
  #bundle: TrustBundle | undefined;
  /** With who was revoked; the same object for as long as both are the same. */
  #believed: TrustBundle | undefined;

  constructor(deps: HeardStatementDeps) {
    this.#deps = deps;
    const saved = deps.state.get(DOMAIN_STATEMENT, 'self');
    this.#sequence = saved?.sequence ?? 0;
    this.#revoked = revocationsOf(saved ?? { revoked: [] });
    this.#partners = vouchedOf(saved?.partners ?? []);
  }

  /** By trust domain. */
  get partners(): ReadonlyMap<string, Vouched> {
    return this.#partners;
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** The bundle, and who is not believed although it vouches for them. */
  believed(bundle: TrustBundle): TrustBundle {
    if (this.#believed === undefined || this.#bundle !== bundle) {
      this.#bundle = bundle;
      this.#believed = { ...bundle, revoked: this.#revoked };
    }
    return this.#believed;
  }

  /**
   * Asks for what the registry has, if that is news. `adopt` has to have stored the bundle that follows before the
   * rest counts. True: something is believed otherwise. Never throws.
   */
  async hear(
    client: DomainClient,
    bundle: TrustBundle,
    adopt: (bundle: TrustBundle) => Promise<void>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { state, clock, logger } = this.#deps;
    try {
      const call = { signal, timeoutMs: CALL_TIMEOUT_MS };
      const { statement: signed } = await client.getStatement(
        { knownSequence: BigInt(this.#sequence) },
        call,
      );
      if (signed === undefined) return false;
      const statement = verifyStatement(signed, bundle, clock.wall());
      const { sequence, revoked, partners = [] } = statement;
      if (sequence <= this.#sequence) return false;
      await adopt(bundleOfStatement(statement));
      state.put(DOMAIN_STATEMENT, 'self', { sequence, revoked, partners });
      this.#sequence = sequence;
      this.#revoked = revocationsOf(statement);
      this.#partners = vouchedOf(partners);
      this.#believed = undefined;
      const authorities = statement.authorities.length;
      logger.info({ sequence, authorities, revoked: revoked.map(({ node }) => node) }, 'domain has spoken');
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const { code, message: reason } = fromConnectError(error);
      const again = this.#reasons.take(reason, clock.monotonic());
      if (again !== undefined)
        logger.warn({ code, reason, again }, 'what the domain says of itself is not taken');
      return false;
    }
  }
}

const vouchedOf = (partners: readonly VouchedPartner[]): ReadonlyMap<string, Vouched> =>
  new Map(partners.map((one) => [one.trustDomain, { bundle: bundleOfStatement(one), until: one.until }]));
