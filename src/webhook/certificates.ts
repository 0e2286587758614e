// Keeps this replica's certificate good and trusted: makes it, tells API servers of it through the webhook's configuration,
// and renews it in time. The next one is shown only after they have been told of it, and the one before stays trusted until
// then, so that no call fails in between. Nothing is stored: a replica that starts anew makes a new one.

import { Vl3Error } from '../../native-free/error.ts';
import { planBundle } from '../../native-free/kube/ca-bundle.ts';
import { pause } from '../agent/backoff.ts';
import { Failures, type FailuresDeps } from '../agent/failures.ts';
import {
  holderOf,
  makeServingCertificate,
  readAnchors,
  type ServingCertificate,
} from './serving-certificate.ts';
import type { ConfigurationApi, WebhookConfiguration } from './webhook-configuration.ts';

export interface Pace {
  /** Of a certificate; it is renewed after half of it. */
  readonly lifetimeMs: number;
  /** How long after the first one is written down all API servers know it. */
  readonly readyAfterMs: number;
  /** The same of a further one, for which there is time. */
  readonly switchAfterMs: number;
  /** How often the configuration is looked at: somebody may have written over it. */
  readonly lookMs: number;
  /** While something is under way. */
  readonly hastyMs: number;
}

export const PACE: Pace = {
  lifetimeMs: 24 * 3_600_000,
  readyAfterMs: 2_000,
  switchAfterMs: 60_000,
  lookMs: 10_000,
  hastyMs: 1_000,
};

export interface CertificatesOptions {
  /** This replica's; no other has it. */
  readonly name: string;
  readonly pace?: Pace;
}

export interface CertificatesDeps extends FailuresDeps {
  readonly api: ConfigurationApi;
  readonly clock: { readonly monotonic: () => number; readonly wall: () => number };
  /** Shows it to whoever connects from now on. */
  readonly show: (certificate: ServingCertificate) => void;
}

const RETRACT_TRIES = 10;

/** A certificate, and since when API servers may know it (monotonic ms). */
interface Held extends ServingCertificate {
  trustedSince: number | undefined;
}

export class Certificates {
  readonly #holder: string;
  readonly #pace: Pace;
  readonly #deps: CertificatesDeps;
  readonly #failures: Failures;
  #shown: Held | undefined;
  #next: Held | undefined;
  #renewals = 0;
  #problem = 'the webhook has not been looked up yet';

  constructor({ name, pace = PACE }: CertificatesOptions, deps: CertificatesDeps) {
    this.#holder = holderOf(name);
    this.#pace = pace;
    this.#deps = deps;
    this.#failures = new Failures('the certificate is looked after again', deps);
  }

  /** Why API servers cannot call this replica; empty: they can. */
  get problems(): readonly string[] {
    const { wall, monotonic } = this.#deps.clock;
    if (this.#shown === undefined) return [this.#problem];
    const { trustedSince } = this.#shown;
    if (!isGoodAt(this.#shown, wall())) return ['its certificate has ended'];
    if (trustedSince === undefined) return [this.#problem || 'its certificate is not in the configuration'];
    const isKnown = monotonic() - trustedSince >= this.#pace.readyAfterMs;
    return isKnown ? [] : ['its certificate was put into the configuration only just now'];
  }

  /** Unix ms; undefined: there is none. */
  get notAfter(): number | undefined {
    return this.#shown?.notAfter;
  }

  get renewals(): number {
    return this.#renewals;
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let isSettled = false;
      try {
        isSettled = await this.#look();
        this.#problem = '';
      } catch (error) {
        if (signal.aborted) return;
        this.#problem = this.#failures.say(error).message;
      }
      const { lookMs, hastyMs } = this.#pace;
      // Not all replicas at once.
      await pause((isSettled ? lookMs : hastyMs) * (0.75 + Math.random() / 2), signal);
    }
  }

  /** Takes this replica's certificates out of the configuration; what fails is left for the others to take out. */
  async retract(): Promise<void> {
    for (let tries = 0; tries < RETRACT_TRIES; tries++) {
      try {
        return await this.#publish(await this.#deps.api.read(), []);
      } catch (error) {
        // Others write as well, most of all when all go at once.
        if (error instanceof Vl3Error && error.code === 'aborted') continue;
        this.#failures.say(error);
        return;
      }
    }
  }

  /** Whether there is nothing to be waited for. */
  async #look(): Promise<boolean> {
    const { api, clock } = this.#deps;
    const configuration = await api.read();
    const hosts = hostsOf(configuration);
    const now = clock.wall();
    const isGood = (one: Held | undefined): one is Held =>
      one !== undefined && isGoodAt(one, now) && hosts.every((host) => one.hosts.includes(host));
    if (!isGood(this.#next)) this.#next = undefined;
    // One that nobody trusts yet is better than one that nobody will.
    if (!isGood(this.#shown)) this.#show(this.#next ?? (await this.#make(hosts)));
    else if (now >= this.#shown.notAfter - this.#pace.lifetimeMs / 2) this.#next ??= await this.#make(hosts);
    const mine = [this.#shown, this.#next].filter((one) => one !== undefined);
    await this.#publish(configuration, mine);
    const { trustedSince } = this.#next ?? {};
    if (this.#next !== undefined && trustedSince !== undefined) {
      if (clock.monotonic() - trustedSince >= this.#pace.switchAfterMs) this.#show(this.#next);
    }
    return this.#next === undefined;
  }

  async #make(hosts: readonly string[]): Promise<Held> {
    const now = this.#deps.clock.wall();
    const { lifetimeMs } = this.#pace;
    const made = await makeServingCertificate({ holder: this.#holder, hosts, now, lifetimeMs });
    return { ...made, trustedSince: undefined };
  }

  #show(held: Held): void {
    if (this.#shown !== undefined) this.#renewals += 1;
    if (held === this.#next) this.#next = undefined;
    this.#shown = held;
    this.#deps.show(held);
    const until = new Date(held.notAfter).toISOString();
    this.#deps.logger.info({ hosts: held.hosts, until }, 'a new certificate is shown');
  }

  async #publish({ resourceVersion, webhooks }: WebhookConfiguration, mine: readonly Held[]): Promise<void> {
    const { api, clock } = this.#deps;
    const bundles = new Map<string, string>();
    const missing = new Set<Held>();
    for (const { name, bundle } of webhooks) {
      const seen = readAnchors(bundle);
      for (const one of mine) if (!seen.some(({ pem }) => pem === one.anchor.pem)) missing.add(one);
      const anchors = mine.map(({ anchor }) => anchor);
      const planned = planBundle({ seen, mine: anchors, holder: this.#holder, now: clock.wall() });
      if (planned !== undefined) bundles.set(name, planned.map(({ pem }) => pem).join(''));
    }
    for (const one of missing) one.trustedSince = undefined;
    if (bundles.size > 0) await api.trust(resourceVersion, bundles);
    for (const one of mine) one.trustedSince ??= clock.monotonic();
  }
}

const isGoodAt = ({ notBefore, notAfter }: ServingCertificate, now: number): boolean =>
  notBefore <= now && now < notAfter;

/** Throws Vl3Error when nobody could call any webhook of it. */
const hostsOf = ({ webhooks }: WebhookConfiguration): string[] => {
  const hosts = new Set(webhooks.map(({ host }) => host).filter((host) => host !== undefined));
  if (hosts.size > 0) return [...hosts];
  const sentence = 'the configuration names no webhook with a service or a URL: apply it as it was rendered';
  throw new Vl3Error('failed-precondition', sentence);
};
