// The addresses this node hands out on one network: from the prefixes it leases, another one leased when they are used
// up, and given back when it is not needed any more. Each is written down before it is given. How that is kept in step is
// native-free/ipam/node-addresses.ts.

import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { ADDRESS_REST_MS, Allocator, allocatorStateSchema } from '../../native-free/ipam/allocator.ts';
import { type Asked, NodeAddresses } from '../../native-free/ipam/node-addresses.ts';
import {
  type Address,
  type Family,
  formatPrefix,
  type Prefix,
  parsePrefix,
  prefixContains,
} from '../../native-free/ipam/prefix.ts';
import { EMPTY_PREFIX_MS, surplusPrefix } from '../../native-free/ipam/surplus.ts';
import type { Moment } from '../../native-free/moment.ts';
import { mustBeInPools } from '../../native-free/reconcile/joined-network.ts';
import type { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import { fromConnectError } from '../api/errors.ts';
import type { AgentClient } from '../registry/client.ts';
import { orAborted } from './aborted.ts';
import { leaseFrom, termFrom } from './lease-messages.ts';

const LEASE_TIMEOUT_MS = 10_000;
/** While an address that has not rested would do as well. */
const SHORT_LEASE_TIMEOUT_MS = 2_000;
/** The registry had no prefix, or did not answer: it is not asked again before. */
const LEASE_PAUSE_MS = 5_000;

/** How long things rest before they are used by others. */
export interface Rests {
  /** An address that was given back. */
  readonly addressMs: number;
  /** A further prefix that is empty. */
  readonly prefixMs: number;
}
export const DEFAULT_RESTS: Rests = { addressMs: ADDRESS_REST_MS, prefixMs: EMPTY_PREFIX_MS };

export interface AddressesDeps {
  readonly client: () => AgentClient;
  /** What this node leases has changed: the router has to know, and the peers. */
  readonly onLeased: () => Promise<void>;
  /** Resolves once the registry was told what has changed, or could not be. */
  readonly announced: () => Promise<void>;
  /** Milliseconds that only grow, since boot. */
  readonly now: () => number;
  readonly moment: () => Moment;
  /** Prefixes whose lease is nearly over: nothing new is handed out of them. */
  readonly closing?: () => readonly Prefix[];
  /** Runs a call that gets a lease or gives one back, until its answer is written down. */
  readonly leaseCall?: <T>(call: () => Promise<T>) => Promise<T>;
  readonly rests?: Rests;
  readonly logger: Logger;
}

export class Addresses {
  readonly #saved: SavedNetwork;
  readonly #deps: AddressesDeps;
  readonly #rests: Rests;
  readonly #allocator: Allocator;
  readonly #addresses: NodeAddresses;
  /** The lease under way: who needs one meanwhile waits for the same. */
  #leasing: Promise<void> | undefined;
  /** The giving back under way. */
  #returning: Promise<void> | undefined;
  #refusal: { readonly error: Vl3Error; readonly until: number } | undefined;

  constructor(saved: SavedNetwork, deps: AddressesDeps) {
    this.#saved = saved;
    this.#deps = deps;
    this.#rests = deps.rests ?? DEFAULT_RESTS;
    const state = allocatorStateSchema.parse(saved.document.allocator);
    this.#allocator = new Allocator(state, deps.now(), this.#rests.addressMs);
    for (const prefix of saved.prefixes) this.#allocator.addPrefix(prefix);
    this.#addresses = new NodeAddresses({
      allocator: this.#allocator,
      save: (allocator) => saved.change({ allocator }),
      transact: (change) => saved.transact(change),
      now: deps.now,
    });
  }

  /** This node's own address of each family. */
  get gateways(): Address[] {
    return this.#families.flatMap((family) => this.#allocator.gateway(family) ?? []);
  }

  /** What is handed out of excluded ranges, and stays: gateway addresses of this node. */
  get excludedGateways(): Address[] {
    const { excluded } = this.#saved;
    return this.gateways.filter((address) => excluded.some((range) => prefixContains(range, address)));
  }

  get #families(): Family[] {
    return this.#saved.pools.map(({ family }) => family);
  }

  /** Nothing new is handed out of these. */
  get #closed(): Prefix[] {
    return [...this.#saved.excluded, ...(this.#deps.closing?.() ?? [])];
  }

  /**
   * One address of each family of the network for the attachment `owner`, written down together with what `also` writes.
   * What has not rested is handed out only when no other prefix is to be had. Throws Vl3Error when there is none.
   */
  async allocate(
    owner: string,
    asked: Omit<Asked, 'early'>,
    also: (addresses: readonly Address[]) => void,
    signal: AbortSignal,
  ): Promise<Address[]> {
    for (const address of asked.fixed ?? []) this.#mustBeOfPool(address);
    const take = (early: boolean) => {
      signal.throwIfAborted();
      return this.#addresses.take(owner, this.#families, this.#closed, also, { ...asked, early });
    };
    for (;;) {
      const taken = take(false);
      if ('addresses' in taken) return taken.addresses;
      try {
        await orAborted(this.#another(taken.missing), signal);
      } catch (error) {
        const resting = take(true);
        if ('addresses' in resting) return resting.addresses;
        throw error;
      }
    }
  }

  #mustBeOfPool(address: Address): void {
    const { pools, name } = this.#saved;
    if (pools.some((pool) => prefixContains(pool, address))) return;
    const known = pools.map(formatPrefix).join(' and ');
    throw new Vl3Error(
      'invalid-argument',
      `an address on ${name} is in ${known}: ask for one of those, or for none`,
    );
  }

  /** Written down together with what `also` writes; when that fails, `owner` holds them still. */
  free(owner: string, addresses: readonly Address[], also: () => void): void {
    this.#addresses.free(owner, addresses, also);
  }

  /** Frees what belongs to none of these attachments. */
  freeStrangers(known: ReadonlySet<string>): void {
    for (const owner of this.#addresses.freeStrangers(known))
      this.#deps.logger.warn({ network: this.#saved.name, attachment: owner }, 'stray addresses freed');
  }

  // --- more

  #another(family: Family): Promise<void> {
    const now = this.#deps.now();
    if (this.#refusal !== undefined && now < this.#refusal.until) return Promise.reject(this.#refusal.error);
    this.#leasing ??= this.#next(family)
      .catch((cause: unknown) => {
        const error = fromConnectError(cause);
        this.#refusal = { error, until: this.#deps.now() + LEASE_PAUSE_MS };
        throw error;
      })
      .finally(() => {
        this.#leasing = undefined;
      });
    return this.#leasing;
  }

  #call<T>(call: () => Promise<T>): Promise<T> {
    return this.#deps.leaseCall === undefined ? call() : this.#deps.leaseCall(call);
  }

  /**
   * What is on its way back goes first: until the registry knows, it counts as held, and the pool may have nothing else.
   * Nor may a release that is sent again meet a lease of the same prefix.
   */
  async #next(family: Family): Promise<void> {
    const hasResting = this.#addresses.uses(family, this.#closed).some(({ free }) => free > 0n);
    const timeoutMs = hasResting ? SHORT_LEASE_TIMEOUT_MS : LEASE_TIMEOUT_MS;
    await orAborted(this.#return([]), AbortSignal.timeout(timeoutMs));
    await this.#call(() => this.#lease(family, timeoutMs));
  }

  async #lease(family: Family, timeoutMs: number): Promise<void> {
    const { name: network } = this.#saved.document;
    const requestId = this.#saved.requestId(family, () => randomBytes(8).toString('hex'));
    const since = this.#deps.moment();
    const answer = await this.#deps.client().leasePrefix({ network, family, requestId }, { timeoutMs });
    const lease = leaseFrom(answer.lease, termFrom(answer.leaseTermMs, since));
    const prefix = parsePrefix(lease.prefix);
    mustBeInPools(prefix, this.#saved.pools, network);
    this.#addresses.addPrefix(prefix, () => this.#saved.leased(lease, family));
    this.#deps.logger.info({ network: this.#saved.name, prefix: lease.prefix }, 'prefix leased');
    await this.#deps.onLeased();
  }

  // --- less

  /**
   * Gives back further prefixes that have been empty for a while: nothing is handed out of them any more, then they are
   * no longer announced, then the registry is told, again and again until it agrees. Run now and then.
   */
  async giveBack(): Promise<void> {
    // Whoever leases does so itself, before.
    if (this.#leasing === undefined) await this.#return(this.#families);
  }

  /** What is on its way back, and what can go of these families. One at a time: who comes meanwhile waits for the same. */
  #return(shrinking: readonly Family[]): Promise<void> {
    this.#returning ??= this.#returnAll(shrinking).finally(() => {
      this.#returning = undefined;
    });
    return this.#returning;
  }

  async #returnAll(shrinking: readonly Family[]): Promise<void> {
    for (const family of shrinking) {
      const uses = this.#addresses.uses(family, this.#saved.excluded);
      const surplus = surplusPrefix(uses, this.#deps.now(), this.#rests.prefixMs);
      if (surplus === undefined || this.#leasing !== undefined) continue;
      const prefix = formatPrefix(surplus);
      const returning = [...(this.#saved.document.returning ?? []), prefix];
      if (!this.forget(prefix, { returning })) continue;
      this.#deps.logger.info({ network: this.#saved.name, prefix }, 'prefix is empty and is given back');
      await this.#deps.onLeased();
    }
    const { returning = [] } = this.#saved.document;
    // The registry takes back nothing that is announced still.
    if (returning.length > 0) await this.#deps.announced();
    for (const prefix of returning) await this.#call(() => this.#release(prefix));
  }

  /**
   * A prefix is not this node's any more: forgets it, as one write. The caller withdraws its attachments before and says
   * so to router and peers after; false while an address of it is handed out.
   */
  forget(prefix: string, change: { readonly returning?: string[] } = {}): boolean {
    return this.#addresses.removePrefix(parsePrefix(prefix), () => this.#saved.forgetLease(prefix, change));
  }

  async #release(prefix: string): Promise<void> {
    const { name: network } = this.#saved;
    try {
      const named = { network: this.#saved.document.name, prefix };
      await this.#deps.client().releasePrefix(named, { timeoutMs: LEASE_TIMEOUT_MS });
    } catch (cause) {
      const { code, message } = fromConnectError(cause);
      // An answer that was lost, and another node that has it by now.
      if (code !== 'permission-denied') {
        this.#deps.logger.debug({ network, prefix, reason: message }, 'prefix cannot be given back yet');
        return;
      }
    }
    const { returning = [] } = this.#saved.document;
    this.#saved.change({ returning: returning.filter((one) => one !== prefix) });
    // The pool has more than it had then.
    this.#refusal = undefined;
    this.#deps.logger.info({ network, prefix }, 'prefix given back');
  }
}
