// Keeps what the registry has decided about admission in step with rules and attachments: whenever either changes, what is
// attached is decided anew, and each node's grant is signed anew when it grants something else, or has not long to go. Who
// decides is native-free/registry/admission-decisions.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { redecide } from '../../native-free/registry/admission-decisions.ts';
import { putInForce } from '../../native-free/registry/admission-rules.ts';
import { dueGrant, type Granting, isAsAsked, keepGrant } from '../../native-free/registry/granting-rules.ts';
import { all, below, keys, one, partsOf } from '../../native-free/registry/keys.ts';
import type { LeaseTerms } from '../../native-free/registry/lease-terms.ts';
import { decodeValue, lease as leaseSchema } from '../../native-free/registry/model.ts';
import { recoveryOf } from '../../native-free/registry/recovery-rules.ts';
import type { Batch } from '../../native-free/registry/transaction.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import type { Signer } from '../identity/signer.ts';
import { storedGrant } from './messages.ts';
import { CompactedError, type Store } from './store.ts';
import type { Transactor } from './transactor.ts';

export interface AdmissionKeeperDependencies {
  readonly store: Store;
  readonly transactor: Transactor;
  readonly signer: Signer;
  readonly terms: LeaseTerms;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
}

const RETRY_MS = 1000;
/** Grants on their way to a signer apart. */
const LANES = 8;
const MAX_AGAIN_MS = 5 * 60 * 1000;
/** How often everything is looked at, whether or not something changed: so many times in a grant's term, or each hour. */
const ROUNDS_A_TERM = 28;
const HOUR_MS = 60 * 60 * 1000;

/** What the grants of a network's nodes follow from. */
const GRANTED = new Set(['attachments', 'members', 'cluster-enrolments', 'rulesets', 'domain']);

export class AdmissionKeeper implements AsyncDisposable {
  readonly #deps: AdmissionKeeperDependencies;
  readonly #stop = new AbortController();
  #revision = 0;
  /** What has to be looked at: networks, or members of them as `network node`. */
  readonly #dirty = new Set<string>();
  readonly #reasons = new RepeatedReasons();
  /** Whose grants are not as the registry has decided. */
  readonly #differing = new Map<string, { readonly tries: number; readonly timer: NodeJS.Timeout }>();
  #wake: (() => void) | undefined;
  #running: Promise<unknown> = Promise.resolve();

  constructor(deps: AdmissionKeeperDependencies) {
    this.#deps = deps;
  }

  /** Resolves once what the store held at the start is in order. */
  async start(): Promise<void> {
    this.#revision = (await this.#deps.store.read([])).revision;
    await this.#markAll();
    // One apart may be away, and is not waited for.
    if (!this.#deps.signer.isApart) await this.#settle();
    const everyMs = Math.min(HOUR_MS, Math.max(RETRY_MS, this.#deps.terms.termMs / ROUNDS_A_TERM));
    const round = setInterval(() => void this.#markAll(), everyMs);
    this.#stop.signal.addEventListener('abort', () => clearInterval(round));
    this.#deps.signer.onChange(() => void this.#markAll(), this.#stop.signal);
    this.#running = Promise.all([this.#follow(), this.#work()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const { timer } of this.#differing.values()) clearTimeout(timer);
    this.#wake?.();
    await this.#running;
  }

  /** All restricted networks, or what a node has on them; of a signer apart, which leases by grants, all networks. */
  async #markAll(node?: string): Promise<void> {
    const { transactor, signer } = this.#deps;
    const state = await transactor.read([all(below.rulesets), all(below.networks)]).catch(() => undefined);
    const networks = signer.isApart
      ? (state?.networks() ?? []).map(({ value }) => value.name)
      : (state?.rulesets() ?? []).map(({ value }) => value.network);
    for (const network of networks) this.#dirty.add(node === undefined ? network : `${network} ${node}`);
    if (this.#dirty.size > 0) this.#wake?.();
  }

  async #follow(): Promise<void> {
    const { store, logger } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for await (const batch of store.watch('/', this.#revision, signal)) this.#note(batch);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof CompactedError)) {
          logger.error({ err: error }, 'the watch of the store failed');
          await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
        }
        this.#revision = (await store.read([]).catch(() => ({ revision: this.#revision }))).revision;
        await this.#markAll();
      }
    }
  }

  #note({ revision, changes }: Batch): void {
    this.#revision = revision;
    for (const { key, value } of changes) {
      const [kind = '', first = '', second] = partsOf(key);
      if (kind === 'leases' && value !== undefined && this.#deps.signer.isApart)
        this.#dirty.add(`${first} ${decodeValue(leaseSchema, value, key).node}`);
      if (!GRANTED.has(kind)) continue;
      if (kind === 'rulesets') this.#dirty.add(first);
      // A recovery began or ended.
      else if (kind === 'domain') void this.#markAll();
      else if (second === undefined) void this.#markAll(first);
      else this.#dirty.add(`${first} ${second}`);
    }
    if (this.#dirty.size > 0) this.#wake?.();
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      if (this.#dirty.size === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
      if (!(await this.#settle())) await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Looks at all that is to be looked at; false when something failed, and is to be looked at again. */
  async #settle(): Promise<boolean> {
    const { logger } = this.#deps;
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    let succeeded = true;
    const isGone = new AbortController();
    const settleOne = async (what: string): Promise<void> => {
      if (this.#stop.signal.aborted) return;
      const [network = '', node] = what.split(' ');
      try {
        // The others would wait for it in vain.
        if (isGone.signal.aborted) throw isGone.signal.reason;
        await this.#settleOne(network, node);
      } catch (error) {
        succeeded = false;
        this.#dirty.add(what);
        const isRefusal = error instanceof Vl3Error && error.code !== 'internal';
        if (isRefusal && error.code === 'unavailable') isGone.abort(error);
        const reason = isRefusal ? error.message : '';
        if (isRefusal && this.#reasons.take(reason, performance.now()) === undefined) return;
        const why = isRefusal ? { reason } : { err: error };
        logger.error({ ...why, network, node }, 'admission could not be brought in step; it is tried again');
      }
    };
    await this.#inLanes(dirty, settleOne);
    return succeeded;
  }

  /** One at a time where signing is a matter of this process, several on their way to a signer apart. */
  async #inLanes<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
    const next = items[Symbol.iterator]();
    const run = async (): Promise<void> => {
      for (let item = next.next(); !item.done; item = next.next()) await work(item.value);
    };
    await Promise.all(Array.from({ length: this.#deps.signer.isApart ? LANES : 1 }, run));
  }

  async #settleOne(network: string, node: string | undefined): Promise<void> {
    const { transactor, signer } = this.#deps;
    const state = await transactor.read([
      one(keys.domain),
      one(keys.ruleset(network)),
      ...(node === undefined ? [all(below.members(network))] : []),
    ]);
    const ruleset = state.ruleset(network)?.value;
    if (ruleset === undefined && !signer.isApart) return;
    const isDecided = ruleset !== undefined;
    if (node !== undefined) return await this.#settleNode(network, node, isDecided);
    const failures: unknown[] = [];
    await this.#inLanes(state.members(network), async ({ value }) => {
      // What is refused to one is no reason to keep the others waiting; a signer that is gone is.
      if (failures.some((one) => one instanceof Vl3Error && one.code === 'unavailable')) return;
      await this.#settleNode(network, value.node, isDecided).catch((error: unknown) => failures.push(error));
    });
    if (failures.length > 0) throw failures[0];
    if (isDecided && recoveryOf(state) === undefined)
      await transactor.run(putInForce(network, ruleset.version));
  }

  /** `isDecided`: by rules that somebody has touched. */
  async #settleNode(network: string, node: string, isDecided: boolean): Promise<void> {
    const { transactor, signer, now, logger } = this.#deps;
    const { trustDomain } = signer.trustBundle;
    while (isDecided) {
      const { answer } = await transactor.run(redecide(network, node, trustDomain, now()));
      for (const { id, workload } of answer.withdrawn)
        logger.info({ network, node, attachment: id, workload }, 'no rule admits it any more');
      if (answer.remaining === 0) break;
    }
    const about: Granting = {
      ...{ network, node, trustDomain, storeId: this.#deps.store.identity },
      leases: signer.isApart,
    };
    const bounds = () => ({
      termMs: this.#deps.terms.termMs,
      signsUntil: signer.signsUntil ?? Number.POSITIVE_INFINITY,
    });
    for (;;) {
      const { answer: due } = await transactor.run(dueGrant(about, bounds(), now()));
      if (due === undefined) return;
      const signed = await signer.signGrant(due.content, due.notAfter);
      const { answer: isKept } = await transactor.run(keepGrant(about, due, storedGrant(signed)));
      if (!isKept) continue;
      this.#lookAgain(`${network} ${node}`, signer.isApart && !isAsAsked(signed.record, due.content));
      return;
    }
  }

  /**
   * A signer apart decides by rules that an admin tells it a moment after the registry, and by what the node says to it:
   * while the two differ it is asked again, ever more rarely.
   */
  #lookAgain(what: string, differs: boolean): void {
    const { tries = 0, timer } = this.#differing.get(what) ?? {};
    clearTimeout(timer);
    this.#differing.delete(what);
    if (!differs || this.#stop.signal.aborted) return;
    const again = setTimeout(
      () => {
        this.#dirty.add(what);
        this.#wake?.();
      },
      Math.min(MAX_AGAIN_MS, RETRY_MS * 2 ** tries),
    );
    this.#differing.set(what, { tries: tries + 1, timer: again });
  }
}
