// The domains whose networks this node may be on: its own, and each that its own is federated with. One that the own registry
// lists no more is believed nothing at once, what is attached to its networks is taken down, and then it is forgotten. A
// partner's registry that says there is no federation ends this node's part in its networks as well; it stays known, since
// only the own registry says who is a partner.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { Domains } from '../../native-free/kube/annotation.ts';
import { NETWORK } from '../../native-free/reconcile/documents.ts';
import { domainOfKey } from '../../native-free/registry/network-key.ts';
import { nodeKey } from '../../native-free/registry/node-key.ts';
import type { Identity } from '../identity/identity.ts';
import { pause } from './backoff.ts';
import { Failures } from './failures.ts';
import type { Federations } from './federations.ts';
import { Home, type HomeDeps } from './home.ts';
import { PartnerLink } from './partner-link.ts';

export interface HomesOptions {
  readonly trustDomain: string;
  readonly node: string;
}

export interface HomesDeps extends HomeDeps {
  readonly federations: () => Federations;
  readonly identity: () => Identity;
  /** Turns all that is attached to the network into wishes. */
  readonly withdrawAll: (network: string, reason: string) => Promise<void>;
  /** What could not be attached to networks of other domains may be by now. */
  readonly onDomainsChanged: () => void;
  readonly logger: Logger;
}

export interface Partner {
  readonly home: Home;
  readonly link: PartnerLink;
}

/** What could not be taken down is tried again after this long. */
const RETRY_MS = 1_000;

export class Homes implements AsyncDisposable {
  readonly own: Home;
  readonly #options: HomesOptions;
  readonly #deps: HomesDeps;
  readonly #failures: Failures;
  readonly #partners = new Map<
    string,
    Partner & { readonly stop: AbortController; done: Promise<unknown> }
  >();
  /** What is being taken down. */
  readonly #ending = new Map<string, Promise<void>>();
  readonly #closing = new AbortController();
  #isRunning = false;
  #domains: Domains;

  constructor(options: HomesOptions, deps: HomesDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#domains = { home: options.trustDomain, partners: new Set() };
    this.#failures = new Failures("a partner's network could not be taken down; it is tried again", deps);
    this.own = new Home({ ...options, domain: undefined }, deps);
  }

  get all(): Home[] {
    return [this.own, ...this.partners.map(({ home }) => home)];
  }

  /** The same object while they are the same. */
  get domains(): Domains {
    const partners = this.#deps
      .federations()
      .all.flatMap(({ trustDomain, isRevoked }) => (isRevoked ? [] : [trustDomain]));
    const isOld =
      partners.length === this.#domains.partners.size &&
      partners.every((one) => this.#domains.partners.has(one));
    if (!isOld) this.#domains = { home: this.#options.trustDomain, partners: new Set(partners) };
    return this.#domains;
  }

  get partners(): Partner[] {
    return [...this.#partners.values()];
  }

  /** Throws Vl3Error when the domain, as a network's key names it, is no partner. */
  of(domain: string | undefined): Home {
    if (domain === undefined) return this.own;
    const partner = this.#partners.get(domain);
    if (partner !== undefined) return partner.home;
    const { trustDomain } = this.#options;
    if (!this.#deps.federations().hasHeard)
      throw new Vl3Error(
        'unavailable',
        `the registry of ${trustDomain} has not said yet with whom it is federated: whether ${domain} is is not known`,
      );
    throw new Vl3Error(
      'failed-precondition',
      `"${domain}" is not federated with this domain, ${trustDomain}: an admin here accepts an invitation of it (\`vl3 federation accept\`)`,
    );
  }

  /** Makes the partners that were known before. To be called before networks are opened. */
  open(): void {
    for (const { trustDomain } of this.#deps.federations().all) this.#make(trustDomain);
  }

  /** What the own registry says of the domain has changed. */
  changed(trustDomain: string): void {
    // First of all: from here on nobody is believed whom nobody vouches for.
    for (const membership of this.#deps.networks().all) membership.trustChanged(trustDomain);
    if (this.#deps.federations().get(trustDomain)?.isRevoked === false) {
      this.#make(trustDomain).link.reconnect();
      this.#deps.onDomainsChanged();
    } else if (this.#isRunning) this.#end(trustDomain);
  }

  /** Other CAs speak for the own domain, or another of its nodes was revoked. */
  ownTrustChanged(): void {
    for (const membership of this.#deps.networks().all) membership.trustChanged(this.#options.trustDomain);
    // By whom this node's own SVID is vouched for is a partner's business; by which connection it is shown is not.
    for (const { link } of this.partners) link.reconnect();
  }

  /** This node's SVID is another. */
  identityRenewed(): void {
    for (const { link } of this.partners) link.reconnect();
  }

  /** As LeaseKeeper.begin, of all. */
  async begin(): Promise<void> {
    await Promise.all(this.all.map(({ keeper }) => keeper.begin()));
  }

  /** Until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    this.#isRunning = true;
    for (const [trustDomain, partner] of this.#partners) {
      this.#start(partner);
      if (this.#deps.federations().get(trustDomain)?.isRevoked !== false) this.#end(trustDomain);
    }
    await this.own.run(signal);
  }

  /** The partner's registry says that there is no federation (any more). Never throws. */
  async refused(home: Home, reason: string): Promise<void> {
    await this.#drop(home, reason).catch((error) => this.#failures.say(error, { domain: home.trustDomain }));
  }

  #make(trustDomain: string): Partner {
    const known = this.#partners.get(trustDomain);
    if (known !== undefined) return known;
    const { node, trustDomain: own } = this.#options;
    const { federations, identity, clock, logger } = this.#deps;
    const home: Home = new Home(
      { trustDomain, domain: trustDomain, node: nodeKey(trustDomain, { node, trustDomain: own }) },
      {
        ...this.#deps,
        client: () => link.client,
        onUnknown: () => link.unknownThere(),
        names: () => federations().get(trustDomain)?.names ?? [],
      },
    );
    const link: PartnerLink = new PartnerLink(trustDomain, {
      federation: () => federations().get(trustDomain),
      ...{ identity, clock, logger },
      seen: home.seen,
      isNeeded: () => home.memberships.length > 0,
      onObserved: (address) => home.observed(address),
      onStoreReplaced: () => home.storeReplaced(),
      onRecovering: (answer, askedAt) => home.heard(answer, askedAt),
      onBack: () => home.isBack(),
      onRefused: (reason) => void this.refused(home, reason),
    });
    const partner = { home, link, stop: new AbortController(), done: Promise.resolve() };
    this.#partners.set(trustDomain, partner);
    if (this.#isRunning) this.#start(partner);
    return partner;
  }

  #start(partner: Partner & { readonly stop: AbortController; done: Promise<unknown> }): void {
    const signal = AbortSignal.any([partner.stop.signal, this.#closing.signal]);
    partner.done = Promise.all([partner.link.run(signal), partner.home.run(signal)]);
  }

  /** Takes down what hangs on a domain that is no partner any more, and forgets it; tried until it is done. */
  #end(trustDomain: string): void {
    if (this.#ending.has(trustDomain)) return;
    const work = this.#endUntilDone(trustDomain).finally(() => this.#ending.delete(trustDomain));
    this.#ending.set(trustDomain, work);
  }

  async #endUntilDone(trustDomain: string): Promise<void> {
    const { federations, surroundings, report } = this.#deps;
    const reason = `the federation with ${trustDomain} was revoked`;
    const isOver = (): boolean =>
      this.#closing.signal.aborted || federations().get(trustDomain)?.isRevoked === false;
    report(`${reason}: what was attached to its networks is taken down, and its nodes are no peers any more`);
    for (; !isOver(); await pause(RETRY_MS, this.#closing.signal)) {
      const partner = this.#partners.get(trustDomain);
      try {
        if (partner !== undefined) await this.#drop(partner.home, reason);
        if (isOver() || this.#saved(trustDomain).length > 0) continue;
        federations().forget(trustDomain);
        this.#partners.delete(trustDomain);
        partner?.home.seen.forget();
        surroundings.forget(trustDomain);
        partner?.stop.abort();
        await partner?.done;
        await partner?.link[Symbol.asyncDispose]();
        this.#deps.onDomainsChanged();
        return;
      } catch (error) {
        this.#failures.say(error, { domain: trustDomain });
      }
    }
  }

  #saved(trustDomain: string): string[] {
    return this.#deps.state
      .list(NETWORK)
      .map(({ name }) => name)
      .filter((name) => domainOfKey(name) === trustDomain);
  }

  /** Takes this node off all networks of the domain. */
  async #drop(home: Home, reason: string): Promise<void> {
    const { withdrawAll, networks } = this.#deps;
    // Nobody attaches to them meanwhile.
    for (const membership of home.memberships) if (!membership.isLeaving) membership.markLeaving();
    const outcomes = await Promise.allSettled(
      home.memberships.map(async ({ network }) => {
        await withdrawAll(network, reason);
        await networks().drop(network);
      }),
    );
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#ending.values());
    await Promise.all([...this.#partners.values()].map(({ done }) => done));
    for (const { link } of this.partners) await link[Symbol.asyncDispose]();
  }
}
