// Where this node is: its underlay addresses and MTU, what the registry sees of it, and what follows for the endpoints it
// announces. Read again now and then; says when something changed.

import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { Vl3Error } from '../../native-free/error.ts';
import { formatAddress } from '../../native-free/ipam/prefix.ts';
import { type Announcement, announce } from '../../native-free/reconcile/endpoints.ts';
import type { RecordEndpoint } from '../../native-free/registry/record.ts';
import type { Tools } from '../netns/tool.ts';
import { ENCAPSULATION_OVERHEAD, localAddresses, underlayMtu } from '../netns/underlay.ts';

export interface Advertised {
  /** An IP address or a DNS name. */
  readonly address: string;
  readonly port?: number;
}

/** Assumed while the underlay's MTU is not known: Ethernet's. */
const USUAL_UNDERLAY_MTU = 1500;

/** Least MTU of a network: IPv6's, which every link has to carry. */
const LEAST_MTU = 1280;

export class Surroundings {
  readonly #advertised: readonly Advertised[];
  readonly #tools: Tools;
  readonly #port: number;
  #addresses: string[] = [];
  #observed: string | undefined;
  #underlayMtu = USUAL_UNDERLAY_MTU;
  #announcement: Announcement = { endpoints: [], behindNat: false, site: undefined };

  private constructor(advertised: readonly Advertised[], port: number, tools: Tools) {
    this.#advertised = advertised;
    this.#port = port;
    this.#tools = tools;
  }

  static async discover(
    options: { readonly advertised: readonly Advertised[]; readonly port: number },
    deps: { readonly tools: Tools },
  ): Promise<Surroundings> {
    const advertised = await Promise.all(options.advertised.map(resolve));
    const surroundings = new Surroundings(advertised, options.port, deps.tools);
    await surroundings.refresh();
    return surroundings;
  }

  get endpoints(): RecordEndpoint[] {
    return this.#announcement.endpoints;
  }

  get behindNat(): boolean {
    return this.#announcement.behindNat;
  }

  get site(): string | undefined {
    return this.#announcement.site;
  }

  /** The MTU of a network that prescribes none. */
  get derivedMtu(): number {
    return Math.max(LEAST_MTU, this.#underlayMtu - ENCAPSULATION_OVERHEAD);
  }

  /** Reads the underlay again; tells which of the two, what is announced or the MTU, changed. */
  async refresh(): Promise<{ endpoints: boolean; mtu: boolean }> {
    const before = this.derivedMtu;
    const [addresses, mtu] = await Promise.all([localAddresses(this.#tools), underlayMtu(this.#tools)]);
    this.#addresses = [...new Set(addresses.map(formatAddress))];
    this.#underlayMtu = mtu ?? USUAL_UNDERLAY_MTU;
    return { endpoints: this.#update(), mtu: this.derivedMtu !== before };
  }

  /** The registry saw this node come from `address`. True when what is announced changed. */
  seenAs(address: string): boolean {
    this.#observed = address;
    return this.#update();
  }

  #update(): boolean {
    const before = JSON.stringify(this.#announcement);
    this.#announcement = announce({
      localAddresses: this.#addresses,
      observedAddress: this.#observed,
      advertised: this.#advertised,
      port: this.#port,
    });
    return JSON.stringify(this.#announcement) !== before;
  }
}

/** With an IP address in place of a name. */
const resolve = async (advertised: Advertised): Promise<Advertised> => {
  const { address } = advertised;
  if (isIP(address) !== 0) return advertised;
  try {
    return { ...advertised, address: (await lookup(address)).address };
  } catch (cause) {
    const sentence = `"${address}" cannot be resolved: give --advertise an address, or a name that resolves`;
    throw new Vl3Error('invalid-argument', sentence, { cause });
  }
};
