// Keeps one partner's bundle as the issuer of this domain's own identity gives it: SPIRE, which federates itself, delivers it
// with the registry's SVID. Its endpoint is not asked then. What is not given any more counts no more (SPIFFE Workload API,
// section 4.4). As with the endpoint, what is held is read and written through its owner.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { type HeldBundle, judgeBundle } from '../../native-free/federation/bundle-rules.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { pause } from '../agent/backoff.ts';
import { fingerprint } from '../identity/certificate.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { decodeSpiffeBundle, encodeSpiffeBundle } from '../identity/spiffe-bundle.ts';

/** What an IdentitySource tells of other domains. */
export interface FederatedSource {
  readonly place: string;
  /** All that there is now; undefined: nothing was offered yet. */
  readonly federated: readonly TrustBundle[] | undefined;
  /** Why what it says cannot be gone by now, in a sentence. */
  readonly problem: string | undefined;
  onFederated(listener: () => void): () => void;
}

export interface GivenBundleDependencies {
  readonly source: FederatedSource;
  readonly held: () => HeldBundle | undefined;
  /** Written before it counts; rejects when it cannot be. */
  readonly keep: (held: HeldBundle) => Promise<void>;
  readonly logger: Logger;
  /** Unix ms. */
  readonly now: () => number;
  readonly confirmMs?: number;
}

/** While the source lives, what it said last is said again this often. */
const CONFIRM_MS = 5 * 60_000;

export class GivenBundle {
  readonly #trustDomain: string;
  readonly #deps: GivenBundleDependencies;
  readonly #reasons = new RepeatedReasons();
  #problem: string | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(trustDomain: string, deps: GivenBundleDependencies) {
    this.#trustDomain = trustDomain;
    this.#deps = deps;
  }

  /** Why what is held was not confirmed lately, or holds nothing, as a sentence. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Goes by each change, and confirms in between, until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const leave = this.#deps.source.onFederated(() => void this.look());
    while (!signal.aborted) {
      await this.look();
      await pause(this.#deps.confirmMs ?? CONFIRM_MS, signal);
    }
    leave();
  }

  /** Looks once, now. Never rejects. */
  async look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look());
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { source, held, keep, now } = this.#deps;
    const trustDomain = this.#trustDomain;
    const { federated, problem, place } = source;
    if (federated === undefined || problem !== undefined) {
      this.#fail(`the bundle of ${trustDomain} is not confirmed: ${problem ?? `${place} has not come yet`}`);
      return;
    }
    const given = federated.find((one) => one.trustDomain === trustDomain);
    try {
      const offered = bundleOf(trustDomain, given?.certificates ?? []);
      // Whoever gives this domain its identities may take back, and go back.
      const verdict = judgeBundle(held(), offered, 'admin', now());
      if (verdict.kind === 'refused') {
        this.#fail(`the bundle of ${trustDomain} is refused: ${verdict.message}`);
        return;
      }
      await keep(verdict.held);
      if (verdict.kind === 'replaced') {
        const { added, removed } = verdict;
        this.#deps.logger.info(
          { trustDomain, place, added, removed },
          'the bundle of the partner was replaced',
        );
      }
    } catch (error) {
      const why = error instanceof Vl3Error ? error.message : String(error);
      this.#fail(`the bundle of ${trustDomain} is refused: ${why}`);
      return;
    }
    if ((given?.certificates.length ?? 0) > 0) this.#problem = undefined;
    else
      this.#fail(
        given === undefined
          ? `${place} gives no bundle of ${trustDomain}, and none of its identities holds: have the registry's entry federate with it (federatesWith)`
          : `${place} gives a bundle of ${trustDomain} without any CA, and none of its identities holds: see what SPIRE has of it (\`spire-server bundle list\`)`,
      );
  }

  #fail(problem: string): void {
    this.#problem = problem;
    const again = this.#reasons.take(problem, this.#deps.now());
    if (again !== undefined) this.#deps.logger.warn({ trustDomain: this.#trustDomain, again }, problem);
  }
}

const bundleOf = (trustDomain: string, certificates: readonly Uint8Array[]) => {
  const once = new Map(certificates.map((der) => [Buffer.from(fingerprint(der)).toString('hex'), der]));
  return decodeSpiffeBundle(
    encodeSpiffeBundle({ trustDomain, certificates: [...once.values()] }),
    trustDomain,
  );
};
