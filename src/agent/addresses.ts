// The addresses this node hands out on one network: from the prefixes it leases, another one leased when they are used
// up. Each is written down before it is given. How that is kept in step is native-free/ipam/node-addresses.ts.

import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { Allocator, allocatorStateSchema } from '../../native-free/ipam/allocator.ts';
import { NodeAddresses } from '../../native-free/ipam/node-addresses.ts';
import { type Address, type Family, parsePrefix } from '../../native-free/ipam/prefix.ts';
import { fromConnectError } from '../api/errors.ts';
import type { PrefixLease } from '../api/generated/vl3/v1/common_pb.js';
import type { AgentClient } from '../registry/client.ts';
import { orAborted } from './aborted.ts';
import type { SavedNetwork } from './saved-network.ts';

const LEASE_TIMEOUT_MS = 10_000;

export interface AddressesDeps {
  readonly client: () => AgentClient;
  /** Another prefix was leased: the router has to know, and the peers. */
  readonly onLeased: () => Promise<void>;
  readonly logger: Logger;
}

export class Addresses {
  readonly #saved: SavedNetwork;
  readonly #deps: AddressesDeps;
  readonly #allocator: Allocator;
  readonly #addresses: NodeAddresses;
  /** The lease under way: who needs one meanwhile waits for the same. */
  #leasing: Promise<void> | undefined;

  constructor(saved: SavedNetwork, deps: AddressesDeps) {
    this.#saved = saved;
    this.#deps = deps;
    this.#allocator = new Allocator(allocatorStateSchema.parse(saved.document.allocator));
    for (const prefix of saved.prefixes) this.#allocator.addPrefix(prefix);
    this.#addresses = new NodeAddresses({
      allocator: this.#allocator,
      save: (allocator) => saved.change({ allocator }),
      transact: (change) => saved.transact(change),
    });
  }

  /** This node's own address of each family. */
  get gateways(): Address[] {
    return this.#families.flatMap((family) => this.#allocator.gateway(family) ?? []);
  }

  get #families(): Family[] {
    return this.#saved.pools.map(({ family }) => family);
  }

  /**
   * One address of each family of the network for the attachment `owner`, written down together with what `also` writes.
   * Throws Vl3Error when there is none to have.
   */
  async allocate(
    owner: string,
    also: (addresses: readonly Address[]) => void,
    signal: AbortSignal,
  ): Promise<Address[]> {
    for (;;) {
      signal.throwIfAborted();
      const taken = this.#addresses.take(owner, this.#families, this.#saved.excluded, also);
      if ('addresses' in taken) return taken.addresses;
      this.#leasing ??= this.#lease(taken.missing).finally(() => {
        this.#leasing = undefined;
      });
      await orAborted(this.#leasing, signal);
    }
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

  async #lease(family: Family): Promise<void> {
    const network = this.#saved.name;
    // Named after what is held: asked again because an answer got lost, the registry gives the same prefix.
    const held = this.#saved.prefixes.filter((prefix) => prefix.family === family).length;
    const requestId = `${family}-${held}`;
    const answer = await this.#deps
      .client()
      .leasePrefix({ network, family, requestId }, { timeoutMs: LEASE_TIMEOUT_MS })
      .catch((error: unknown) => {
        throw fromConnectError(error);
      });
    const lease = leaseOf(answer.lease);
    this.#saved.change({ leases: [...this.#saved.document.leases, lease] });
    this.#allocator.addPrefix(parsePrefix(lease.prefix));
    this.#deps.logger.info({ network, prefix: lease.prefix }, 'prefix leased');
    await this.#deps.onLeased();
  }
}

/** A lease as it is written down and announced. */
export const leaseOf = (lease: PrefixLease | undefined): { prefix: string; leasedAt: number } => {
  if (lease === undefined) throw new Vl3Error('internal', 'the registry answered without a lease');
  parsePrefix(lease.prefix);
  return { prefix: lease.prefix, leasedAt: lease.leasedAt === undefined ? 0 : timestampMs(lease.leasedAt) };
};
