// Who this process is by the word of somebody else: SPIRE or whatever else issues SVIDs, through files or the Workload API. It
// keeps the last SVID that held; what is offered and does not hold changes nothing, and is said. Not here: how offers come
// (svid-files.ts, workload-api.ts), and what holds (svid.ts).

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { pause } from '../agent/backoff.ts';
import type { TrustBundle } from './chain.ts';
import { chooseSvid, type Offer, type Svid, type Wanted } from './svid.ts';

export interface OfferTaker {
  /** All that there is now. */
  offered(offer: Offer): void;
  /** There is nothing to be had, or nothing that can be read. */
  failed(problem: Vl3Error): void;
}

/** Where offers come from. */
export interface OfferFeed {
  /** What comes before "cannot be used": "the SVID in /run/vl3-svid". */
  readonly place: string;
  /** Tells of what there is, now and whenever it changes, until `signal` aborts; never throws. */
  run(taker: OfferTaker, signal: AbortSignal): Promise<void>;
}

export interface IdentitySourceDeps {
  readonly logger: Logger;
  /** Unix ms. */
  readonly now: () => number;
  readonly monotonic: () => number;
  readonly judgeAgainMs?: number;
}

/** What did not hold is judged again this often, since time alone may have made it valid. */
const JUDGE_AGAIN_MS = 10_000;
const MAX_REASONS = 64;

export class IdentitySource implements AsyncDisposable {
  readonly place: string;
  /** Once it has been somebody, it is nobody else. */
  #wanted: Wanted;
  readonly #deps: IdentitySourceDeps;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #listeners = new Set<() => void>();
  readonly #reasons = new RepeatedReasons(MAX_REASONS);
  #svid: Svid | undefined;
  readonly #federationListeners = new Set<() => void>();
  #federated: readonly TrustBundle[] | undefined;
  #refused: Offer | undefined;
  #problem: Vl3Error | undefined;

  constructor(feed: OfferFeed, wanted: Wanted, deps: IdentitySourceDeps) {
    this.place = feed.place;
    this.#wanted = wanted;
    this.#deps = deps;
    const { signal } = this.#stop;
    const taker: OfferTaker = {
      offered: (offer) => this.#judge(offer),
      failed: (problem) => this.#failed(problem),
    };
    this.#running = Promise.all([feed.run(taker, signal), this.#judgeAgain(signal)]);
  }

  /** The last that held; it may have ended since. */
  get svid(): Svid | undefined {
    return this.#svid;
  }

  /**
   * The bundles of other trust domains that came with the last offer that held: all that there are. Undefined: there was none
   * yet.
   */
  get federated(): readonly TrustBundle[] | undefined {
    return this.#federated;
  }

  /** Why what is offered now is not used, in a sentence; undefined: it is. */
  get problem(): string | undefined {
    return this.#problem?.message;
  }

  /** Told when there is another SVID, or another bundle with it. Answers what ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Told when there are other bundles of other domains. Answers what ends that. */
  onFederated(listener: () => void): () => void {
    this.#federationListeners.add(listener);
    return () => void this.#federationListeners.delete(listener);
  }

  /** The first that holds. Rejects with a Vl3Error, the last problem, when `signal` aborts. */
  async first(signal: AbortSignal): Promise<Svid> {
    const found = Promise.withResolvers<void>();
    const done = this.onChange(found.resolve);
    const aborted = (): void => found.resolve();
    signal.addEventListener('abort', aborted, { once: true });
    try {
      if (this.#svid === undefined && !signal.aborted) await found.promise;
    } finally {
      done();
      signal.removeEventListener('abort', aborted);
    }
    if (this.#svid !== undefined) return this.#svid;
    throw this.#problem ?? new Vl3Error('unavailable', `${this.place} has not come yet`);
  }

  /** One that was kept from before counts until there is another. */
  goOnWith(kept: Svid): void {
    if (this.#svid !== undefined) return;
    this.#svid = kept;
    this.#wanted = kept.id;
    const notAfter = new Date(kept.notAfter).toISOString();
    this.#deps.logger.warn(
      { place: this.place, notAfter, reason: this.problem },
      'the SVID that was kept goes on',
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #judge(offer: Offer): void {
    let svid: Svid;
    try {
      svid = chooseSvid(offer, this.#wanted, this.#deps.now());
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      this.#refused = offer;
      this.#failed(error, true);
      return;
    }
    this.#refused = undefined;
    this.#problem = undefined;
    const isNews = this.#federated === undefined || !areSameBundles(this.#federated, offer.federated);
    this.#federated = offer.federated;
    if (isNews) for (const listener of [...this.#federationListeners]) listener();
    if (this.#svid !== undefined && isSame(this.#svid, svid)) return;
    this.#svid = svid;
    this.#wanted = svid.id;
    const { logger } = this.#deps;
    const notAfter = new Date(svid.notAfter).toISOString();
    logger.info(
      { place: this.place, notAfter, authorities: svid.trustBundle.certificates.length },
      'SVID taken',
    );
    for (const listener of [...this.#listeners]) listener();
  }

  #failed(problem: Vl3Error, isRefusal = false): void {
    if (!isRefusal) this.#refused = undefined;
    const { code, message } = problem;
    this.#problem = new Vl3Error(code, `${this.place} cannot be used: ${message}`, { cause: problem });
    const again = this.#reasons.take(message, this.#deps.monotonic());
    if (again !== undefined)
      this.#deps.logger.warn(
        { code, reason: this.#problem.message, again },
        'no new SVID; the last one goes on',
      );
  }

  async #judgeAgain(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#deps.judgeAgainMs ?? JUDGE_AGAIN_MS, signal);
      if (this.#refused !== undefined && !signal.aborted) this.#judge(this.#refused);
    }
  }
}

const isSame = (a: Svid, b: Svid): boolean =>
  sameList(a.certificateChain, b.certificateChain) &&
  sameList(a.trustBundle.certificates, b.trustBundle.certificates);

/** In whatever order. */
const areSameBundles = (a: readonly TrustBundle[], b: readonly TrustBundle[]): boolean =>
  a.length === b.length &&
  a.every(({ trustDomain, certificates }) =>
    b.some((one) => one.trustDomain === trustDomain && sameList(one.certificates, certificates)),
  );

const sameList = (a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean =>
  a.length === b.length && a.every((one, i) => Buffer.compare(one, b[i] ?? new Uint8Array(0)) === 0);
