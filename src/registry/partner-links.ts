// What this registry asks of its partners, each for as long as the federation lasts: their bundles, from their endpoints, and
// whether they still know of it.

import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import type { Logger } from 'pino';
import type { HeldBundle } from '../../native-free/federation/bundle-rules.ts';
import type { Federation } from '../../native-free/registry/federation-model.ts';
import { keepBundle, noteStanding } from '../../native-free/registry/federation-rules.ts';
import { FederationService } from '../api/generated/vl3/v1/federation_pb.js';
import { BundleFetcher } from '../federation/bundle-fetcher.ts';
import { type FederatedSource, GivenBundle } from '../federation/given-bundle.ts';
import { mustBeSigned } from '../federation/succession.ts';
import type { Signer } from '../identity/signer.ts';
import { clientTlsOptions } from '../identity/tls.ts';
import { connectRegistry } from './connection.ts';
import type { Partners } from './partners.ts';
import type { Transactor } from './transactor.ts';

interface Dependencies {
  readonly partners: Partners;
  readonly transactor: Transactor;
  readonly signer: Pick<Signer, 'putPartner'>;
  readonly trustDomain: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
  /** What gives this registry its identity, and with it bundles. Default: nothing does. */
  readonly source?: FederatedSource | undefined;
}

export interface PartnerLinksOptions {
  /** How often a partner is asked whether the federation goes on. */
  readonly standingMs?: number;
  /** For https_web endpoints: CAs in PEM instead of the web's. */
  readonly ca?: string | undefined;
  /** Domains whose bundles are those that come with the own identity; their endpoints are not asked. */
  readonly given?: ReadonlySet<string>;
}

/** Two words. */
const MAX_ANSWER_BYTES = 4096;
const STANDING_MS = 30_000;

interface Link {
  /** Of what it was made; another: another link. */
  readonly key: string;
  readonly fetcher: BundleFetcher | GivenBundle | undefined;
  readonly stop: AbortController;
  readonly running: Promise<unknown>;
}

export class PartnerLinks implements AsyncDisposable {
  readonly #options: PartnerLinksOptions;
  readonly #deps: Dependencies;
  readonly #links = new Map<string, Link>();
  readonly #leave: () => void;
  #closed = false;

  constructor(options: PartnerLinksOptions, deps: Dependencies) {
    this.#options = options;
    this.#deps = deps;
    this.#leave = deps.partners.onChange(() => this.#align());
    this.#align();
  }

  /** Why the partner's bundle was not confirmed lately; undefined: it was. */
  problemOf(domain: string): string | undefined {
    return this.#links.get(domain)?.fetcher?.problem;
  }

  /** Asks for the partner's bundle once, now. */
  async look(domain: string): Promise<void> {
    await this.#links.get(domain)?.fetcher?.look();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#leave();
    const links = [...this.#links.values()];
    for (const { stop } of links) stop.abort();
    await Promise.all(links.map(({ running }) => running));
  }

  #align(): void {
    if (this.#closed) return;
    const active = new Map(
      this.#deps.partners.active().map(({ federation }) => [federation.trustDomain, federation]),
    );
    for (const [domain, link] of this.#links) {
      const wanted = active.get(domain);
      if (wanted !== undefined && keyOf(wanted) === link.key) continue;
      link.stop.abort();
      this.#links.delete(domain);
    }
    for (const [domain, federation] of active)
      if (!this.#links.has(domain)) this.#links.set(domain, this.#open(federation));
  }

  #open(federation: Federation): Link {
    const { trustDomain, endpoint } = federation;
    const { partners, transactor, signer, logger, now } = this.#deps;
    const { ca, given } = this.#options;
    const { source } = this.#deps;
    const stop = new AbortController();
    const keeper = {
      held: () => partners.of(trustDomain)?.held,
      keep: async (held: HeldBundle) => {
        // Before it counts here: nodes go by what a signer apart says.
        await signer.putPartner?.(trustDomain, mustBeSigned(held.bundle));
        await transactor.run(keepBundle(held));
        await partners.reload();
      },
      logger,
      now,
    };
    const isGiven = source !== undefined && given?.has(trustDomain) === true;
    const fetcher = isGiven
      ? new GivenBundle(trustDomain, { ...keeper, source })
      : endpoint &&
        new BundleFetcher(
          { trustDomain, endpoint, ...(ca !== undefined && { ca }) },
          { ...keeper, random: Math.random },
        );
    const running = Promise.all([fetcher?.run(stop.signal), this.#watchStanding(federation, stop.signal)]);
    return { key: keyOf(federation), fetcher, stop, running };
  }

  async #watchStanding({ trustDomain, handle }: Federation, signal: AbortSignal): Promise<void> {
    const { standingMs = STANDING_MS } = this.#options;
    if (handle === undefined) return;
    while (!signal.aborted) {
      await sleep(standingMs * (0.9 + Math.random() / 5), undefined, { signal }).catch(() => {});
      if (!signal.aborted) await this.#askStanding(trustDomain, handle, signal);
    }
  }

  /** Whoever does not answer says nothing. */
  async #askStanding(domain: string, handle: string, signal: AbortSignal): Promise<void> {
    const { partners, transactor, trustDomain, now, logger } = this.#deps;
    const bundle = partners.bundleFor(domain);
    const registries = partners.of(domain)?.federation.registries ?? [];
    if (bundle === undefined || bundle.certificates.length === 0 || registries.length === 0) return;
    try {
      await using connection = connectRegistry({
        registries,
        tls: clientTlsOptions(bundle),
        maxAnswerBytes: MAX_ANSWER_BYTES,
      });
      const client = createClient(FederationService, connection.transport);
      const answer = await client.confirmFederation(
        { trustDomain, handle: Buffer.from(handle, 'hex') },
        { signal },
      );
      if (answer.recovering) return;
      const { isFederated } = answer;
      const { answer: isNews } = await transactor.run(noteStanding(domain, isFederated, now()));
      if (!isNews) return;
      await partners.reload();
      if (isFederated) logger.info({ trustDomain: domain }, 'the partner knows of the federation again');
      else
        logger.warn(
          { trustDomain: domain },
          'the partner has ended the federation on its side: revoke it here too, or accept a new invitation',
        );
    } catch (error) {
      if (!signal.aborted) logger.debug({ trustDomain: domain, err: error }, 'the partner was not reached');
    }
  }
}

const keyOf = ({ endpoint, registries, handle }: Federation): string =>
  JSON.stringify([endpoint, registries, handle]);
