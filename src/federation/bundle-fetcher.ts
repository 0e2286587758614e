// Keeps one partner's bundle current: asks its endpoint as often as the bundle says, judges what comes, and hands on what holds.
// It keeps nothing itself: what is held is read and written through its owner, so that a restart goes on where it was.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import {
  type BundleVerdict,
  countingCertificates,
  type HeldBundle,
  judgeBundle,
  nextPollMs,
} from '../../native-free/federation/bundle-rules.ts';
import type { BundleEndpoint } from '../../native-free/federation/endpoint.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { trustBundleOf } from '../identity/spiffe-bundle.ts';
import { type BundleCall, fetchBundle } from './bundle-call.ts';
import { successionProblem } from './succession.ts';

export interface BundleFetcherOptions {
  readonly trustDomain: string;
  readonly endpoint: BundleEndpoint;
  /** For https_web: CAs in PEM instead of the web's. */
  readonly ca?: string;
  readonly timeoutMs?: number;
}

export interface BundleFetcherDependencies {
  readonly held: () => HeldBundle | undefined;
  /** Written before it counts; rejects when it cannot be. */
  readonly keep: (held: HeldBundle) => Promise<void> | void;
  readonly logger: Logger;
  /** Unix ms. */
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly sleep?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

/** What a look at the endpoint came to. */
export type BundleLook = BundleVerdict | { readonly kind: 'failed'; readonly error: Vl3Error };

export class BundleFetcher {
  readonly #options: BundleFetcherOptions;
  readonly #dependencies: BundleFetcherDependencies;
  readonly #reasons = new RepeatedReasons();
  #failures = 0;
  #problem: string | undefined;

  constructor(options: BundleFetcherOptions, dependencies: BundleFetcherDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** Why what is held was not confirmed lately, as a sentence; undefined: it was. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Looks at once, and then whenever it is time, until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { held, random } = this.#dependencies;
    while (!signal.aborted) {
      await this.look(signal);
      if (!signal.aborted) await this.#sleep(nextPollMs(held(), this.#failures, random()), signal);
    }
  }

  /** Asks once, now. Never rejects. */
  async look(signal?: AbortSignal): Promise<BundleLook | undefined> {
    const { trustDomain } = this.#options;
    const { now, held, keep } = this.#dependencies;
    try {
      const offered = await fetchBundle(this.#call(signal), now);
      const present = held();
      const problem = successionProblem({ held: present?.bundle }, offered, now());
      const verdict =
        problem === undefined
          ? judgeBundle(present, offered, 'endpoint', now())
          : ({ kind: 'refused', message: problem } as const);
      if (verdict.kind === 'refused') {
        this.#fail(`the bundle of ${trustDomain} is refused: ${verdict.message}`);
        return verdict;
      }
      await keep(verdict.held);
      this.#failures = 0;
      this.#problem = undefined;
      this.#tell(verdict);
      return verdict;
    } catch (cause) {
      if (signal?.aborted) return undefined;
      const error = cause instanceof Vl3Error ? cause : new Vl3Error('unavailable', String(cause), { cause });
      this.#fail(error.message);
      return { kind: 'failed', error };
    }
  }

  #call(signal: AbortSignal | undefined): BundleCall {
    const { trustDomain } = this.#options;
    const certificates = countingCertificates(this.#dependencies.held(), this.#dependencies.now());
    const known = trustBundleOf({ trustDomain, certificates });
    return { ...this.#options, known, ...(signal !== undefined && { signal }) };
  }

  #tell(verdict: BundleVerdict): void {
    if (verdict.kind !== 'replaced') return;
    const { trustDomain } = this.#options;
    const { added, removed, overlaps, held } = verdict;
    const about = { trustDomain, sequence: String(held.bundle.sequence ?? ''), added, removed };
    const { logger } = this.#dependencies;
    if (held.bundle.certificates.length === 0)
      logger.warn(about, 'the partner has taken back all of its CAs: none of its identities holds any more');
    else if (removed.length > 0 && !overlaps)
      logger.warn(
        about,
        'the partner has replaced all of its CAs at once: what the old ones signed ends now',
      );
    else logger.info(about, 'the bundle of the partner was replaced');
  }

  #fail(problem: string): void {
    const { logger, now } = this.#dependencies;
    this.#failures += 1;
    this.#problem = problem;
    // By the sentence without what varies from try to try, such as ports.
    const again = this.#reasons.take(problem.replace(/\d+/g, '#'), now());
    if (again !== undefined) logger.warn({ trustDomain: this.#options.trustDomain, again }, problem);
  }

  async #sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    const wait =
      this.#dependencies.sleep ??
      (async (ms: number, until: AbortSignal) => await sleep(ms, undefined, { signal: until }));
    await wait(milliseconds, signal).catch(() => {});
  }
}
