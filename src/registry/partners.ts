// The domains that this one federates with, as the store has them: whose bundle counts for what, now. It follows the store, so that
// whoever writes there, this process or another, is heard. Not here: what may be written (federation-rules.ts), and asking
// partners for their bundles (partner-bundles.ts).

import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { countingCertificates, type HeldBundle } from '../../native-free/federation/bundle-rules.ts';
import type { Federation } from '../../native-free/registry/federation-model.ts';
import { all, below } from '../../native-free/registry/keys.ts';
import type { VerifyRecord } from '../../native-free/registry/record.ts';
import { verifierByDomain } from '../federation/verifier-by-domain.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { decodeSpiffeBundle, trustBundleOf } from '../identity/spiffe-bundle.ts';
import { CompactedError, type Store } from './store.ts';
import type { Transactor } from './transactor.ts';

export interface KnownPartner {
  readonly federation: Federation;
  /** Undefined: it was only invited. */
  readonly held: HeldBundle | undefined;
  /** Of what agents are told of it: each heartbeat asks, and a bundle is long. */
  readonly digest: string;
}

interface Dependencies {
  readonly store: Store;
  readonly transactor: Transactor;
  /** This domain's, as it is now. */
  readonly ownBundle: () => TrustBundle;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
}

const RETRY_MS = 1000;
const WATCHED = [below.federations, below.partnerBundles];

const digestOf = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 32);

export class Partners implements AsyncDisposable {
  readonly #deps: Dependencies;
  readonly #stop = new AbortController();
  #known = new Map<string, KnownPartner>();
  /** What counted when it was last asked for: the same object until something else does. */
  readonly #counting = new Map<string, { readonly prints: string; readonly bundle: TrustBundle }>();
  #revision = 0;
  #changes = 0;
  #own: TrustBundle | undefined;
  readonly #listeners = new Set<() => void | Promise<void>>();
  #running: Promise<unknown> = Promise.resolve();
  /** Verifies what nodes of this domain and of its partners signed, each by its own bundle. */
  readonly verifyRecord: VerifyRecord;

  constructor(deps: Dependencies) {
    this.#deps = deps;
    this.verifyRecord = verifierByDomain((domain) => this.bundleFor(domain));
  }

  async start(): Promise<void> {
    await this.reload();
    this.#running = this.#follow();
  }

  /** Grows with whatever may make another bundle count. */
  get changes(): number {
    const own = this.#deps.ownBundle();
    if (own !== this.#own) this.#changes += 1;
    this.#own = own;
    return this.#changes;
  }

  all(): KnownPartner[] {
    return [...this.#known.values()];
  }

  of(domain: string): KnownPartner | undefined {
    return this.#known.get(domain);
  }

  /** Those that are more than invited. */
  active(): KnownPartner[] {
    return this.all().filter(({ federation }) => federation.activeSince !== undefined);
  }

  /** By which identities of the domain are verified now; undefined: it is neither this one nor a partner. */
  bundleFor(domain: string): TrustBundle | undefined {
    const own = this.#deps.ownBundle();
    if (domain === own.trustDomain) return own;
    const known = this.#known.get(domain);
    if (known?.federation.activeSince === undefined) return undefined;
    const certificates = countingCertificates(known.held, this.#deps.now());
    const prints = certificates.map(({ fingerprint }) => fingerprint).join();
    const before = this.#counting.get(domain);
    if (before?.prints === prints) return before.bundle;
    const bundle = trustBundleOf({ trustDomain: domain, certificates });
    this.#counting.set(domain, { prints, bundle });
    return bundle;
  }

  /** It was not confirmed for so long that none of its identities counts. */
  isExpired({ federation, held }: KnownPartner): boolean {
    const holds = (held?.bundle.certificates.length ?? 0) > 0;
    return holds && this.bundleFor(federation.trustDomain)?.certificates.length === 0;
  }

  /** Another text, whenever agents should ask anew. */
  get version(): string {
    const parts = this.active().map((known) => `${known.digest} ${this.isExpired(known)}`);
    return digestOf(parts);
  }

  /** Called after each change, and waited for. Answers how to take it back. */
  onChange(listener: () => void | Promise<void>): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves once it goes by what the store holds now: for whoever has just written. */
  async reload(): Promise<void> {
    const { transactor, logger } = this.#deps;
    const state = await transactor.read(WATCHED.map(all));
    // One that was overtaken by a later reading says nothing.
    if (state.revision < this.#revision) return;
    this.#revision = state.revision;
    const bundles = new Map(state.partnerBundles().map(({ value }) => [value.trustDomain, value]));
    const known = new Map<string, KnownPartner>();
    for (const { value } of state.federations()) {
      const { trustDomain } = value;
      const stored = bundles.get(trustDomain);
      const before = this.#known.get(trustDomain)?.held;
      const { text, confirmedAt = 0 } = stored ?? {};
      let held: HeldBundle | undefined;
      try {
        if (text !== undefined)
          held =
            before?.bundle.text === text
              ? { bundle: before.bundle, confirmedAt }
              : { bundle: decodeSpiffeBundle(text, trustDomain), confirmedAt };
      } catch (error) {
        logger.error({ err: error, trustDomain }, 'the bundle of a partner that is stored cannot be read');
      }
      const { registries, accepted } = value;
      const told = [trustDomain, registries, accepted, held?.bundle.text];
      known.set(trustDomain, { federation: value, held, digest: digestOf(told) });
    }
    this.#known = known;
    for (const domain of this.#counting.keys()) if (!known.has(domain)) this.#counting.delete(domain);
    this.#changes += 1;
    await Promise.all([...this.#listeners].map((listener) => listener()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #follow(): Promise<void> {
    const { store, logger } = this.#deps;
    const { signal } = this.#stop;
    let revision = this.#revision;
    while (!signal.aborted) {
      try {
        for await (const batch of store.watch('/', revision, signal)) {
          ({ revision } = batch);
          const isOurs = batch.changes.some(({ key }) => WATCHED.some((prefix) => key.startsWith(prefix)));
          if (isOurs && revision > this.#revision) await this.reload();
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof CompactedError)) {
          logger.error({ err: error }, 'the watch of the store failed');
          await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
        }
        await this.reload().catch(() => {});
        ({ revision } = await store.read([]).catch(() => ({ revision })));
      }
    }
  }
}
