// The underlay: hosts, NATs, and datagrams on their way between them. Weather loses, doubles, delays, reorders and
// corrupts them; partitions block a direction between two hosts; a path's MTU swallows what is too large, silently, as
// a path without ICMP does. One UDP port a host.

import type { Endpoint } from '../device/data-plane.ts';
import { Counters } from './counters.ts';
import type { Nat } from './nat.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

export interface Weather {
  /** Probabilities of each datagram's fate. */
  readonly loss: number;
  readonly duplication: number;
  readonly corruption: number;
  /** Of being held back long enough to be overtaken. */
  readonly reordering: number;
  /** Milliseconds each way, at least and at most. */
  readonly delay: readonly [number, number];
}

export const FAIR_WEATHER: Weather = {
  loss: 0,
  duplication: 0,
  corruption: 0,
  reordering: 0,
  delay: [1, 20],
};

export interface Location {
  readonly address: string;
  /** The NAT it is behind; undefined: it is on the open internet. */
  readonly nat: Nat | undefined;
}

interface Host {
  location: Location;
  readonly port: number;
  mtu: number;
  /** False when nobody takes it, not even a socket's buffer. */
  readonly receive: (datagram: Uint8Array, source: Endpoint) => boolean;
}

/** Sees each datagram as it arrives: an attacker beside the path. */
export type Observer = (datagram: Uint8Array, source: Endpoint, destination: Endpoint, to: string) => void;

const UDP_IP_OVERHEAD = 28;
const USUAL_MTU = 1500;
const REORDER_MS = 400;

export class Internet {
  weather: Weather = FAIR_WEATHER;
  observer: Observer | undefined;
  readonly counters = new Counters();
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #hosts = new Map<string, Host>();
  readonly #blocked = new Map<string, number>();
  readonly #seenAs = new Map<string, Set<string>>();
  #underWay = 0;

  constructor(scheduler: Scheduler, random: Random) {
    this.#scheduler = scheduler;
    this.#random = random;
  }

  /** Datagrams that have not arrived. */
  get underWay(): number {
    return this.#underWay;
  }

  addHost(name: string, location: Location, port: number, receive: Host['receive']): void {
    this.#hosts.set(name, { location, port, mtu: USUAL_MTU, receive });
  }

  location(name: string): Location {
    return this.#host(name).location;
  }

  move(name: string, location: Location): void {
    this.#host(name).location = location;
  }

  setMtu(name: string, mtu: number): void {
    this.#host(name).mtu = mtu;
  }

  /** Blocks one direction; as often as it is blocked it has to be freed. */
  block(from: string, to: string): void {
    const key = `${from}>${to}`;
    this.#blocked.set(key, (this.#blocked.get(key) ?? 0) + 1);
  }

  unblock(from: string, to: string): void {
    const key = `${from}>${to}`;
    const left = (this.#blocked.get(key) ?? 0) - 1;
    if (left > 0) this.#blocked.set(key, left);
    else this.#blocked.delete(key);
  }

  isBlocked(from: string, to: string): boolean {
    return this.#blocked.has(`${from}>${to}`);
  }

  /** The address that others see the host come from. */
  publicAddress(name: string): string {
    const { address, nat } = this.#host(name).location;
    return nat?.address ?? address;
  }

  /** Whether two hosts can ever exchange datagrams when nothing blocks them: not across two NATs, without relays. */
  canMeet(a: string, b: string): boolean {
    const [one, other] = [this.#host(a).location.nat, this.#host(b).location.nat];
    return one === undefined || other === undefined || one === other;
  }

  /** Whether a datagram of this host ever came, or could have come, from there. */
  wasSeenAs(name: string, { address, port }: Endpoint): boolean {
    return this.#seenAs.get(name)?.has(`${address}:${port}`) ?? false;
  }

  /** A datagram from a host's socket. Keeps it. */
  send(from: string, datagram: Uint8Array, destination: Endpoint): void {
    const host = this.#host(from);
    this.counters.add('datagrams');
    const source = this.#sourceOf(from, host, destination);
    if (source === undefined) {
      this.counters.add('unroutable datagrams');
      return;
    }
    if (datagram.length + UDP_IP_OVERHEAD > host.mtu) {
      this.counters.add('too large datagrams');
      return;
    }
    const { loss, duplication, corruption } = this.weather;
    if (this.#random.chance(loss)) {
      this.counters.add('lost datagrams');
      return;
    }
    const copies = this.#random.chance(duplication) ? 2 : 1;
    if (copies === 2) this.counters.add('doubled datagrams');
    for (let i = 0; i < copies; i++) {
      const isCorrupt = this.#random.chance(corruption);
      if (isCorrupt) this.counters.add('corrupted datagrams');
      this.#carry(from, isCorrupt ? this.#corrupted(datagram) : datagram, source, destination);
    }
  }

  /** A datagram out of nowhere, under any source address it likes. Keeps it. */
  inject(datagram: Uint8Array, source: Endpoint, destination: Endpoint): void {
    this.counters.add('injected datagrams');
    this.#carry('', datagram, source, destination);
  }

  /** As `inject`, without any delay, and unseen: for floods. Keeps it. */
  injectNow(datagram: Uint8Array, source: Endpoint, destination: Endpoint): void {
    this.counters.add('flooding datagrams');
    const found = this.#find('', source, destination);
    found?.[1].receive(datagram, source);
  }

  #carry(from: string, datagram: Uint8Array, source: Endpoint, destination: Endpoint): void {
    const { delay, reordering } = this.weather;
    const isLate = this.#random.chance(reordering);
    if (isLate) this.counters.add('reordered datagrams');
    const [least, most] = delay;
    const time = least + this.#random.fraction() * (most - least + (isLate ? REORDER_MS : 0));
    this.#underWay++;
    const label = `datagram ${source.address}:${source.port} > ${destination.address}:${destination.port} ${datagram.length} B`;
    this.#scheduler.after(time, label, () => {
      this.#underWay--;
      this.#arrive(from, datagram, source, destination);
    });
  }

  #arrive(from: string, datagram: Uint8Array, source: Endpoint, destination: Endpoint): void {
    const found = this.#find(from, source, destination);
    if (found === undefined) {
      this.counters.add('undeliverable datagrams');
      return;
    }
    const [name, host] = found;
    if (this.isBlocked(from, name)) {
      this.counters.add('blocked datagrams');
      return;
    }
    if (datagram.length + UDP_IP_OVERHEAD > host.mtu) {
      this.counters.add('too large datagrams');
      return;
    }
    // What never arrives anybody can deliver first: that is no attack.
    if (host.receive(datagram.slice(), source)) this.observer?.(datagram, source, destination, name);
  }

  /** As whom the datagram leaves; undefined when a private address is not at the sender's own site. */
  #sourceOf(from: string, { location, port }: Host, destination: Endpoint): Endpoint | undefined {
    const inner = { address: location.address, port };
    const { nat } = location;
    const direct = nat === undefined || this.#isAtSite(nat, destination);
    if (!direct && destination.address === nat.address) return undefined;
    const source = direct ? inner : nat.outbound(inner, destination, this.#scheduler.now);
    const seen = this.#seenAs.get(from) ?? new Set();
    this.#seenAs.set(from, seen.add(`${source.address}:${source.port}`));
    return source;
  }

  #isAtSite(nat: Nat, destination: Endpoint): boolean {
    for (const { location } of this.#hosts.values())
      if (location.nat === nat && location.address === destination.address) return true;
    return false;
  }

  #find(from: string, source: Endpoint, destination: Endpoint): [string, Host] | undefined {
    const senderNat = this.#hosts.get(from)?.location.nat;
    for (const [name, host] of this.#hosts) {
      const { address, nat } = host.location;
      if (nat === undefined || nat === senderNat) {
        if (address === destination.address && host.port === destination.port) return [name, host];
      } else if (nat.address === destination.address) {
        const inner = nat.inbound(destination.port, source, this.#scheduler.now);
        if (inner?.address === address && inner.port === host.port) return [name, host];
      }
    }
    return undefined;
  }

  #corrupted(datagram: Uint8Array): Uint8Array {
    const copy = datagram.slice();
    const at = this.#random.between(0, copy.length - 1);
    copy[at] = (copy[at] ?? 0) ^ (1 << this.#random.between(0, 7));
    return copy;
  }

  #host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new RangeError(`there is no host ${name}`);
    return host;
  }
}
