// What this node does for a registry that lost its memory: it says what it holds and what it is, and then testifies of
// other nodes, with the records they signed, as far as the registry does not know them. The registry says that it needs
// it, or shows it by having another store.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { SeenStore } from '../../native-free/reconcile/seen-store.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import type { AgentClient } from '../registry/client.ts';
import { pause } from './backoff.ts';
import { Failures } from './failures.ts';
import type { Membership } from './membership.ts';

/** Testimony of one node often makes that of the others needless: they do not come at once. */
const LEAST_DELAY_MS = 1_000;
const DELAY_SPREAD_MS = 6_000;
const CALL_TIMEOUT_MS = 10_000;
/** Records a call, and the bytes of them: far less than the registry takes. */
const BATCH = 64;
const BATCH_BYTES = 1_000_000;

export interface RecoveryDeps {
  readonly memberships: () => readonly Membership[];
  readonly client: () => AgentClient;
  readonly seen: SeenStore;
  readonly renewLeases: () => void;
  readonly report: (event: string) => void;
  readonly logger: Logger;
  readonly clock: { readonly monotonic: () => number };
}

export class Recovery {
  readonly #deps: RecoveryDeps;
  /** By its stamp, the run of the registry that recovers. */
  #recovering: string | undefined;
  /** What the registry was told in this recovery, by network and record: once is enough. */
  readonly #said = new Set<string>();

  constructor(deps: RecoveryDeps) {
    this.#deps = deps;
  }

  /** What is wrong, in sentences. */
  get problems(): string[] {
    return this.#recovering !== undefined
      ? [
          'the registry lost its memory and asks all nodes what they hold, which this one has told it: until all have, no prefix is issued ("vl3 registry status" names those that are missing, "vl3 registry settle" ends the wait)',
        ]
      : [];
  }

  /** The registry's store is another one, or an older copy of the one it was. */
  storeReplaced(): void {
    this.#deps.report('the registry was replaced: this node has told it what it holds');
    this.#deps.logger.warn("the registry's store was replaced; saying everything again");
    this.#sayAll();
  }

  /**
   * The registry said whether it is recovering, with its stamp of revision 0. One that was started again meanwhile may have
   * lost what it was told in this recovery.
   */
  heard(isRecovering: boolean, stamp: Uint8Array): void {
    const recovering = isRecovering ? Buffer.from(stamp).toString('base64') : undefined;
    if (recovering === this.#recovering) return;
    this.#recovering = recovering;
    this.#said.clear();
    if (!isRecovering) {
      this.#deps.report('the registry has recovered what it had forgotten');
      return;
    }
    this.#deps.report('the registry lost its memory: this node has told it what it holds');
    this.#deps.logger.warn('the registry lost its memory; saying everything again');
    this.#sayAll();
    for (const membership of this.#deps.memberships()) membership.relist();
  }

  #sayAll(): void {
    this.#deps.renewLeases();
    for (const membership of this.#deps.memberships()) membership.sayAgain();
  }

  /** Testifies whenever it is needed, until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const failures = new Failures('testimony failed', this.#deps);
    while (!signal.aborted) {
      await pause(LEAST_DELAY_MS + Math.random() * DELAY_SPREAD_MS, signal);
      if (this.#recovering === undefined || signal.aborted) continue;
      for (const membership of this.#deps.memberships()) {
        try {
          await this.#testify(membership, signal);
        } catch (cause) {
          if (signal.aborted) return;
          failures.say(cause, { network: membership.network });
        }
      }
    }
  }

  async #testify(membership: Membership, signal: AbortSignal): Promise<void> {
    const { client, seen, logger } = this.#deps;
    const { network, saved } = membership;
    const due = membership
      .testimony(seen.position.storeId)
      .map((signed) => ({ signed, id: `${network} ${Buffer.from(signed.signature).toString('base64')}` }))
      .filter(({ id }) => !this.#said.has(id));
    for (const batch of batches(due)) {
      const records = batch.map(({ signed: { record, signature, certificateChain } }) => ({
        record,
        signature,
        certificateChain: [...certificateChain],
      }));
      const { restored } = await client().testifyRecords(
        { network: saved.document.name, records },
        { signal, timeoutMs: CALL_TIMEOUT_MS },
      );
      for (const { id } of batch) this.#said.add(id);
      logger.info({ network, records: records.length, restored }, 'testified of other nodes');
    }
  }
}

/** In order, each at most BATCH records and, unless a single one is more, BATCH_BYTES. */
export function* batches<T extends { readonly signed: SignedRecord }>(due: readonly T[]): Generator<T[]> {
  let batch: T[] = [];
  let bytes = 0;
  for (const one of due) {
    const size = sizeOf(one.signed);
    if (batch.length > 0 && (batch.length === BATCH || bytes + size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(one);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

const sizeOf = ({ record, signature, certificateChain }: SignedRecord): number =>
  certificateChain.reduce((sum, { length }) => sum + length, record.length + signature.length);

/** What a watch throws to begin anew with a snapshot, so that it is known what the registry does not know. */
export const relisting = (): Vl3Error =>
  new Vl3Error('aborted', 'the registry lost its memory: what it knows is read anew');
