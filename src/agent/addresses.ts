// The addresses this node hands out on one network: from the prefixes it leases, another one leased when they are used
// up. Each is written down before it is given. Which address is next is native-free/ipam/allocator.ts.

import { randomUUID } from 'node:crypto';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { Allocator, allocatorStateSchema } from '../../native-free/ipam/allocator.ts';
import { type Address, type Family, parsePrefix } from '../../native-free/ipam/prefix.ts';
import { fromConnectError } from '../api/errors.ts';
import type { PrefixLease } from '../api/generated/vl3/v1/common_pb.js';
import type { AgentClient } from '../registry/client.ts';
import type { SavedNetwork } from './saved-network.ts';

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
  /** The lease under way: who needs one meanwhile waits for the same. */
  #leasing: Promise<void> | undefined;

  constructor(saved: SavedNetwork, deps: AddressesDeps) {
    this.#saved = saved;
    this.#deps = deps;
    this.#allocator = new Allocator(allocatorStateSchema.parse(saved.document.allocator));
    for (const prefix of saved.prefixes) this.#allocator.addPrefix(prefix);
  }

  /** This node's own address of each family. */
  get gateways(): Address[] {
    return this.#families.flatMap((family) => this.#allocator.gateway(family) ?? []);
  }

  get #families(): Family[] {
    return this.#saved.pools.map(({ family }) => family);
  }

  /** One address of each family of the network for the attachment `owner`. Throws Vl3Error when there is none to have. */
  async allocate(owner: string, signal?: AbortSignal): Promise<Address[]> {
    for (;;) {
      const { addresses, missing } = this.#take(owner);
      if (missing === undefined) {
        this.#save();
        return addresses;
      }
      for (const address of addresses) this.#allocator.free(address, owner);
      this.#leasing ??= this.#lease(missing, signal).finally(() => {
        this.#leasing = undefined;
      });
      await this.#leasing;
    }
  }

  free(owner: string, addresses: readonly Address[]): void {
    for (const address of addresses) this.#allocator.free(address, owner);
    this.#save();
  }

  /** `missing`: the family that another prefix is needed for. */
  #take(owner: string): { addresses: Address[]; missing: Family | undefined } {
    const { excluded } = this.#saved;
    const addresses: Address[] = [];
    let missing: Family | undefined;
    for (const family of this.#families) {
      const address = this.#allocator.allocate(family, owner, excluded);
      if (address === undefined) missing = family;
      else addresses.push(address);
    }
    return { addresses, missing };
  }

  async #lease(family: Family, signal: AbortSignal | undefined): Promise<void> {
    const network = this.#saved.name;
    const call = signal === undefined ? {} : { signal };
    const answer = await this.#deps
      .client()
      .leasePrefix({ network, family, requestId: randomUUID() }, call)
      .catch((error: unknown) => {
        throw fromConnectError(error);
      });
    const lease = leaseOf(answer.lease);
    this.#allocator.addPrefix(parsePrefix(lease.prefix));
    this.#saved.change({
      leases: [...this.#saved.document.leases, lease],
      allocator: this.#allocator.toState(),
    });
    this.#deps.logger.info({ network, prefix: lease.prefix }, 'prefix leased');
    await this.#deps.onLeased();
  }

  #save(): void {
    this.#saved.change({ allocator: this.#allocator.toState() });
  }
}

/** A lease as it is written down and announced. */
export const leaseOf = (lease: PrefixLease | undefined): { prefix: string; leasedAt: number } => {
  if (lease === undefined) throw new Vl3Error('internal', 'the registry answered without a lease');
  parsePrefix(lease.prefix);
  return { prefix: lease.prefix, leasedAt: lease.leasedAt === undefined ? 0 : timestampMs(lease.leasedAt) };
};
