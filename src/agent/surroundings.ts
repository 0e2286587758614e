// Where this node is: its underlay addresses and MTU, what the registry sees of it, and what follows for the endpoints it
// announces. Read again now and then; says when something changed.

import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatAddress } from '../../native-free/ipam/prefix.ts';
import { type Announcement, announce } from '../../native-free/reconcile/endpoints.ts';
import { isReachable, type RecordEndpoint } from '../../native-free/registry/record.ts';
import type { Tools } from '../netns/tool.ts';
import { ENCAPSULATION_OVERHEAD, readUnderlay } from '../netns/underlay.ts';

export interface Advertised {
  /** An IP address or a DNS name. */
  readonly address: string;
  readonly port?: number;
}

export interface SurroundingsDeps {
  readonly tools: Tools;
  /** Default: the machine's resolver. */
  readonly resolve?: (name: string) => Promise<{ readonly address: string }>;
}

/** Assumed while the underlay's MTU is not known: Ethernet's. */
const USUAL_UNDERLAY_MTU = 1500;

/** A name that takes longer to resolve is waited for beside all else, and taken at the next look. */
const RESOLVE_MS = 2000;

/** Least MTU of a network: IPv6's, which every link has to carry. */
const LEAST_MTU = 1280;

/** As one domain's registry sees it: what is between differs. */
export interface SeenSurroundings {
  readonly endpoints: RecordEndpoint[];
  readonly behindNat: boolean;
  readonly site: string | undefined;
  /** The MTU of a network that prescribes none. */
  readonly derivedMtu: number;
}

const NOWHERE: Announcement = { endpoints: [], behindNat: false, site: undefined };

/** The own domain's registry. */
const OWN = undefined;

export class Surroundings implements SeenSurroundings {
  readonly #advertised: readonly Advertised[];
  readonly #tools: Tools;
  readonly #lookup: (name: string) => Promise<{ readonly address: string }>;
  readonly #port: number;
  #addresses: string[] = [];
  #ownAddresses: string[] = [];
  #underlayMtu = USUAL_UNDERLAY_MTU;
  /** By the domain whose registry saw it. */
  readonly #observed = new Map<string | undefined, string>();
  readonly #announcements = new Map<string | undefined, Announcement>([[OWN, NOWHERE]]);
  /** Addresses of the advertised names, as last resolved. */
  readonly #resolved = new Map<string, string>();
  #resolving: Promise<void> | undefined;

  private constructor(
    advertised: readonly Advertised[],
    port: number,
    { tools, resolve = lookup }: SurroundingsDeps,
  ) {
    this.#advertised = advertised;
    this.#port = port;
    this.#tools = tools;
    this.#lookup = resolve;
  }

  static async discover(
    options: { readonly advertised: readonly Advertised[]; readonly port: number },
    deps: SurroundingsDeps,
  ): Promise<Surroundings> {
    const surroundings = new Surroundings(options.advertised, options.port, deps);
    await surroundings.refresh();
    return surroundings;
  }

  get endpoints(): RecordEndpoint[] {
    return this.#of(OWN).endpoints;
  }

  get behindNat(): boolean {
    return this.#of(OWN).behindNat;
  }

  get site(): string | undefined {
    return this.#of(OWN).site;
  }

  /** As that domain's registry sees it. */
  seenBy(domain: string | undefined): SeenSurroundings {
    const announcement = (): Announcement => this.#of(domain);
    const derivedMtu = (): number => this.derivedMtu;
    return {
      get endpoints() {
        return announcement().endpoints;
      },
      get behindNat() {
        return announcement().behindNat;
      },
      get site() {
        return announcement().site;
      },
      get derivedMtu() {
        return derivedMtu();
      },
    };
  }

  /** Until a registry has said what it sees, the node is where the own sees it. */
  #of(domain: string | undefined): Announcement {
    return this.#announcements.get(domain) ?? this.#announcements.get(OWN) ?? NOWHERE;
  }

  /** The MTU of a network that prescribes none. */
  get derivedMtu(): number {
    return Math.max(LEAST_MTU, this.#underlayMtu - ENCAPSULATION_OVERHEAD);
  }

  /** Sentences about what is advertised and cannot be announced; it is tried again at every look. */
  get problems(): string[] {
    return this.#names.flatMap((name) => {
      const address = this.#resolved.get(name);
      if (address === undefined)
        return [`"${name}" cannot be resolved: give --advertise an address, or a name that resolves`];
      if (isReachable(address)) return [];
      return [`"${name}" is ${address}, which no other machine can reach: give --advertise another name`];
    });
  }

  get #names(): string[] {
    return this.#advertised.map(({ address }) => address).filter((address) => isIP(address) === 0);
  }

  /** Reads the underlay again; tells which of the two, what is announced or the MTU, changed. */
  async refresh(): Promise<{ endpoints: boolean; mtu: boolean }> {
    const before = this.derivedMtu;
    const { reachable, own, mtu } = await readUnderlay(this.#tools);
    await this.#resolve();
    this.#addresses = [...new Set(reachable.map(formatAddress))];
    this.#ownAddresses = own.map(formatAddress);
    this.#underlayMtu = mtu ?? USUAL_UNDERLAY_MTU;
    const changed = [...this.#announcements.keys()].map((domain) => this.#update(domain));
    return { endpoints: changed.includes(true), mtu: this.derivedMtu !== before };
  }

  /** The domain's registry saw this node come from `address`. True when what is announced there changed. */
  seenAs(domain: string | undefined, address: string): boolean {
    this.#observed.set(domain, address);
    return this.#update(domain);
  }

  /** This node has nothing to do with the domain any more. */
  forget(domain: string): void {
    this.#observed.delete(domain);
    this.#announcements.delete(domain);
  }

  /** A name that does not resolve keeps the address it had. */
  async #resolve(): Promise<void> {
    if (this.#names.length === 0) return;
    const look = async (name: string): Promise<void> => {
      const found = await this.#lookup(name).catch(() => undefined);
      if (found !== undefined) this.#resolved.set(name, found.address);
    };
    this.#resolving ??= Promise.all(this.#names.map(look)).then(() => {
      this.#resolving = undefined;
    });
    await Promise.race([this.#resolving, sleep(RESOLVE_MS, undefined, { ref: false })]);
  }

  #update(domain: string | undefined): boolean {
    const before = JSON.stringify(this.#of(domain));
    const announcement = announce({
      localAddresses: this.#addresses,
      ownAddresses: this.#ownAddresses,
      observedAddress: this.#observed.get(domain) ?? this.#observed.get(OWN),
      advertised: this.#advertised.flatMap((one) => {
        const address = isIP(one.address) === 0 ? this.#resolved.get(one.address) : one.address;
        return address === undefined || !isReachable(address) ? [] : [{ ...one, address }];
      }),
      port: this.#port,
    });
    this.#announcements.set(domain, announcement);
    return JSON.stringify(announcement) !== before;
  }
}
