// The networks this node is on: opened from what was saved, joined when something asks for them, left some minutes
// after the last attachment went, unless the operator named them. Each runs on its own; one that cannot be joined
// holds up no other.

import { randomBytes } from 'node:crypto';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { Vl3Error } from '../../native-free/error.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { NETWORK } from '../../native-free/reconcile/documents.ts';
import { mustBeInPools, mustBeUsable, poolsOf } from '../../native-free/reconcile/joined-network.ts';
import { newNetwork } from '../../native-free/reconcile/saved-network.ts';
import { domainOfKey, nameOfKey } from '../../native-free/registry/network-key.ts';
import { fromConnectError } from '../api/errors.ts';
import { toBase64 } from '../base64.ts';
import { routerName } from '../netns/names.ts';
import { networkOf } from '../registry/messages.ts';
import { VERSION } from '../version.ts';
import { Backoff, pause } from './backoff.ts';
import { Failures } from './failures.ts';
import type { Home } from './home.ts';
import { leaseFrom, termFrom } from './lease-messages.ts';
import { Membership, type MembershipDeps } from './membership.ts';

/** A network without attachments is left after this long: a pod that comes back finds its network as it was. */
const LEAVE_AFTER_MS = 5 * 60_000;

const JOIN_TIMEOUT_MS = 10_000;
/** Whether a permanent network is still joined is looked at this often. */
const LOOK_MS = 1_000;

export interface NetworksOptions {
  readonly netnsPrefix: string;
  /** Asked for by the operator: joined at once and never left. */
  readonly permanent: readonly string[];
}

interface Running {
  readonly membership: Membership;
  readonly stop: AbortController;
  readonly done: Promise<void>;
}

export interface NetworksDeps extends Omit<MembershipDeps, 'home' | 'networks'> {
  /** Whose networks are asked for, by what their keys name. Throws Vl3Error when this domain is not federated with it. */
  readonly homeOf: (domain: string | undefined) => Home;
}

export class Networks implements AsyncDisposable {
  readonly #options: NetworksOptions;
  readonly #deps: NetworksDeps;
  readonly #running = new Map<string, Running>();
  readonly #opening = new Map<string, Promise<Membership>>();
  readonly #pending = new Map<string, string>();
  readonly #closing = new AbortController();
  readonly #notLeft: Failures;

  constructor(options: NetworksOptions, deps: NetworksDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#notLeft = new Failures('leaving failed; it is tried again', deps);
  }

  get all(): Membership[] {
    return [...this.#running.values()].map(({ membership }) => membership);
  }

  get(network: string): Membership | undefined {
    return this.#running.get(network)?.membership;
  }

  /** Networks that were asked for and are not there, with the reason. */
  get pending(): ReadonlyMap<string, string> {
    return this.#pending;
  }

  /** As `get`, once what is under way with the network has ended. */
  async settled(network: string): Promise<Membership | undefined> {
    await this.#opening.get(network)?.catch(() => undefined);
    return this.get(network);
  }

  /** Opens every network that was saved. One that fails is reported, and tried again by `heal` and `join`. */
  async openSaved(): Promise<void> {
    const saved = this.#deps.state.list(NETWORK);
    await Promise.all(
      saved.map(async ({ name }) => {
        try {
          await this.#once(name, () => this.#open(name));
        } catch (error) {
          this.#fail(name, error);
        }
      }),
    );
  }

  /** Keeps the permanent networks joined, also when one is lost, until `signal` aborts; never throws. */
  async joinPermanent(signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.#options.permanent.map(async (network) => {
        const backoff = new Backoff({ firstMs: 500, capMs: 15_000 });
        while (!signal.aborted) {
          try {
            if (this.get(network)?.isLeaving !== false) await this.join(network, signal);
            backoff.reset();
            await pause(LOOK_MS, signal);
          } catch {
            await backoff.wait(signal);
          }
        }
      }),
    );
  }

  /**
   * Opens anew what was taken away under us, and what could not be opened before. Answers what it opened. Run now and
   * then. `isBusy`: something is being done with the network, which is left for the next time.
   */
  async heal(isBusy: (network: string) => boolean): Promise<string[]> {
    const opened: string[] = [];
    for (const { name } of this.#deps.state.list(NETWORK)) {
      const membership = this.get(name);
      if (membership !== undefined && (await membership.router.isIntact())) continue;
      // Nothing is awaited from here until the opening is under way: who comes meanwhile waits for it.
      if (this.#opening.has(name) || this.get(name) !== membership || isBusy(name)) continue;
      try {
        await this.#once(name, async () => {
          await this.#stop(name);
          await membership?.close();
          return await this.#open(name);
        });
        opened.push(name);
        this.#deps.logger.info({ network: name }, 'opened anew');
      } catch (error) {
        this.#fail(name, error);
      }
    }
    return opened;
  }

  /** The membership of a network, joined now if need be. Throws Vl3Error with the reason when that fails. */
  async join(network: string, signal?: AbortSignal): Promise<Membership> {
    const present = this.get(network);
    if (present?.isLeaving === false && !this.#opening.has(network)) return present;
    try {
      return await this.#once(network, async () => {
        const leaving = this.get(network);
        if (leaving?.isLeaving === true) await this.#finishLeaving(leaving);
        if (this.#deps.state.get(NETWORK, network) === undefined) await this.#joinAnew(network, signal);
        return await this.#open(network);
      });
    } catch (error) {
      throw this.#fail(network, error);
    }
  }

  async #joinAnew(network: string, signal: AbortSignal | undefined): Promise<void> {
    const home = this.#homeOf(network);
    try {
      await home.leaseCalls.run(() => this.#enter(network, signal));
    } catch (error) {
      home.refusedBy(fromConnectError(error));
      throw error;
    }
  }

  /** Asks the registry to make this node a member, and writes down what it answered. */
  async #enter(key: string, signal: AbortSignal | undefined): Promise<void> {
    const { state, clock, primitives } = this.#deps;
    const { client, domain } = this.#homeOf(key);
    const network = nameOfKey(key);
    const ends = [this.#closing.signal, AbortSignal.timeout(JOIN_TIMEOUT_MS)];
    const call = { signal: AbortSignal.any(signal === undefined ? ends : [...ends, signal]) };
    const since = clock.moment();
    const { network: joined, leases, leaseTermMs, joinedAt } = await client().joinNetwork({ network }, call);
    if (joined === undefined || joined.name !== network) {
      throw new Vl3Error('internal', `the registry answered without the network ${key}`);
    }
    const definition = networkOf(joined);
    mustBeUsable(definition, domain);
    for (const { prefix } of leases) mustBeInPools(parsePrefix(prefix), poolsOf(definition), key);
    const privateKey = randomBytes(32);
    // Makes sure that it is a key before anything is written down.
    primitives.publicKey(privateKey);
    const document = newNetwork(
      definition,
      leases.map((lease) => leaseFrom(lease, termFrom(leaseTermMs, since))),
      {
        privateKey: toBase64(privateKey),
        wall: clock.wall(),
        joinedAt: joinedAt === undefined ? 0 : timestampMs(joinedAt),
      },
    );
    const { isRestricted, rulesetVersion } = joined;
    state.put(NETWORK, key, { ...document, isRestricted, rulesetVersion: Number(rulesetVersion) });
    this.#deps.logger.info({ network: key, prefixes: document.leases.map(({ prefix }) => prefix) }, 'joined');
  }

  async #open(network: string): Promise<Membership> {
    if (this.#closing.signal.aborted) throw new Vl3Error('unavailable', 'the agent is stopping: try again');
    const home = this.#homeOf(network);
    const router = routerName(this.#options.netnsPrefix, network);
    const networks = (): string[] => [...this.#running.keys()];
    const membership = await Membership.open({ network, router }, { ...this.#deps, home, networks });
    const stop = new AbortController();
    const ended = Promise.withResolvers<void>();
    // Known before it starts: the answers to its first handshakes come while its router is being set up.
    this.#running.set(network, { membership, stop, done: ended.promise });
    try {
      await membership.start();
    } catch (error) {
      this.#running.delete(network);
      ended.resolve();
      await membership.close();
      throw error;
    }
    void membership.run(stop.signal).finally(ended.resolve);
    this.#pending.delete(network);
    home.keeper.renewSoon();
    return membership;
  }

  /** Leaves the networks that nothing has used for a while and that are not busy. Run now and then. */
  async leaveUnused(isBusy: (network: string) => boolean): Promise<void> {
    const now = this.#deps.clock.wall();
    for (const { membership } of [...this.#running.values()]) {
      const { network, isLeaving } = membership;
      if (membership.attachments().length > 0 || this.#opening.has(network) || isBusy(network)) continue;
      try {
        membership.noteUse();
        const isUnused =
          !this.#options.permanent.includes(network) && now - membership.emptySince >= LEAVE_AFTER_MS;
        // All was lost, and it died before it wrote down that it leaves.
        const isLost = membership.prefixes.length === 0;
        if (isUnused || isLeaving || isLost) await this.#leave(membership);
      } catch (error) {
        this.#notLeft.say(error, { network });
      }
    }
  }

  async #leave(membership: Membership): Promise<void> {
    await this.#once(membership.network, async () => {
      // While the registry is gone the network stays usable: from the mark on, it is not.
      if (!membership.isLeaving)
        await membership.home.client().heartbeat({ agentVersion: VERSION }, { timeoutMs: JOIN_TIMEOUT_MS });
      membership.markLeaving();
      await this.#finishLeaving(membership);
      return membership;
    });
  }

  /**
   * An answer that is lost, or an agent that dies now, leaves open whether the registry has given the prefixes to others:
   * so it was written down before, and is asked again until it answers.
   */
  async #finishLeaving(membership: Membership): Promise<void> {
    const { network, saved, home } = membership;
    const { name, joinedAt = 0 } = saved.document;
    // A call that was given up may arrive when this node has joined again: it says which membership it means.
    const meant = { network: name, ...(joinedAt > 0 && { joinedAt: timestampFromMs(joinedAt) }) };
    await home.leaseCalls.run(() => home.client().leaveNetwork(meant, { timeoutMs: JOIN_TIMEOUT_MS }));
    await this.#stop(network);
    await membership.remove();
    this.#deps.logger.info({ network }, 'left');
  }

  /**
   * Takes the network off this node without a word to its registry, which has none for this node any more. What is attached to it
   * is the caller's to take off before.
   */
  async drop(network: string): Promise<void> {
    await this.#opening.get(network)?.catch(() => undefined);
    const membership = this.get(network);
    if (membership === undefined) return;
    await this.#once(network, async () => {
      await this.#stop(network);
      await membership.remove();
      this.#deps.logger.info({ network }, 'dropped');
      return membership;
    });
  }

  #homeOf(network: string): Home {
    return this.#deps.homeOf(domainOfKey(network));
  }

  async #stop(network: string): Promise<void> {
    const running = this.#running.get(network);
    if (running === undefined) return;
    this.#running.delete(network);
    running.stop.abort();
    await running.done;
  }

  /** One opening, joining or leaving at a time for each network; who asks meanwhile gets the same answer. */
  async #once(network: string, work: () => Promise<Membership>): Promise<Membership> {
    const underWay = this.#opening.get(network);
    if (underWay !== undefined) {
      const membership = await underWay;
      // What was under way may have been leaving.
      return this.get(network) === membership ? membership : await this.join(network);
    }
    const mine = work();
    this.#opening.set(network, mine);
    try {
      return await mine;
    } finally {
      this.#opening.delete(network);
    }
  }

  #fail(network: string, error: unknown): Vl3Error {
    const reason = fromConnectError(error);
    const isKnown = this.#pending.get(network) === reason.message;
    // A name that somebody mistyped once is nothing that stays wrong with this node.
    const isWanted = this.#options.permanent.includes(network);
    if (isWanted || this.#deps.state.get(NETWORK, network) !== undefined)
      this.#pending.set(network, reason.message);
    if (!isKnown) {
      const { code, message } = reason;
      this.#deps.logger.warn({ network, code, reason: message }, 'network is not available');
    }
    return reason;
  }

  /** Stops the watches; what the kernel has stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#opening.values());
    for (const { membership } of [...this.#running.values()]) {
      await this.#stop(membership.network);
      await membership.close();
    }
  }
}
