// Alice, bob and whoever else, each a complete WireGuard in memory, joined by an internet whose every datagram is
// seen and may be held, dropped or changed. Time is virtual: it moves only in `run`, in steps of 5 ms, with a tick of
// every device each 100 ms. One seed decides all randomness.

import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import { MemoryTun } from '../../../native-free/device/memory-tun.ts';
import type { PeerConfig } from '../../../native-free/device/peer-config.ts';
import { type Time, Tunnel } from '../../../native-free/device/tunnel.ts';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { HANDSHAKE_QUEUE_LENGTH } from '../../../native-free/noise/constants.ts';
import type { Primitives } from '../../../native-free/noise/primitives.ts';
import { type Datagram, MemoryInternet } from '../../../native-free/port/memory-udp.ts';
import { Port } from '../../../native-free/port/port.ts';
import { messageType, TRANSPORT_TYPE } from '../../../native-free/wire/message.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { packet, payloadOf } from './packets.ts';

const STEP = 5;
const TICK = 100;
const NEW_YEAR_2030 = Date.UTC(2030, 0, 1);

/** A datagram as it was seen on the wire, with the time of its sending. */
export interface Seen extends Datagram {
  readonly at: number;
  readonly type: number | undefined;
}

export interface HostOptions {
  readonly endpoint: Endpoint;
  /** The host's address inside. */
  readonly inside: string;
  readonly primitives?: Primitives;
  readonly mtu?: number;
  readonly timestampMark?: Uint8Array;
  readonly privateKey?: Uint8Array;
  /** Handshake messages wait, and this works off some of them each 5 ms; else each is received at once. */
  readonly workOff?: (host: Host) => void;
  /** Sends a packet back to this address inside the moment that any is delivered. */
  readonly answers?: string;
}

/** A port that shows how many receiver indices are held. */
class CountingPort extends Port {
  readonly indices = new Set<number>();

  override claim(...of: Parameters<Port['claim']>): number {
    const index = super.claim(...of);
    this.indices.add(index);
    return index;
  }

  override release(index: number): void {
    super.release(index);
    this.indices.delete(index);
  }
}

/** Repeatable and good enough to tell keys apart: xorshift32. */
export const seededRandom = (seed: number) => {
  let state = seed | 1;
  return (length: number): Uint8Array =>
    Uint8Array.from({ length }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state >>> 24;
    });
};

export class Host {
  readonly tunnel: Tunnel;
  readonly port: CountingPort;
  readonly inside: string;
  /** Handshake messages that wait, at most HANDSHAKE_QUEUE_LENGTH. */
  readonly queue: Datagram[] = [];
  readonly workOff: ((host: Host) => void) | undefined;
  readonly privateKey: Uint8Array;
  endpoint: Endpoint;
  /** Added to the lab's wall clock: this host's own opinion. */
  clockOffset = 0;
  isUp = true;
  readonly #tun = new MemoryTun();
  readonly #lab: Lab;

  constructor(lab: Lab, options: HostOptions) {
    const primitives = options.primitives ?? opensslPrimitives;
    this.#lab = lab;
    this.inside = options.inside;
    this.endpoint = options.endpoint;
    this.privateKey = options.privateKey ?? lab.random(32);
    this.workOff = options.workOff;
    this.port = new CountingPort({ random: lab.random });
    const { timestampMark } = options;
    this.tunnel = new Tunnel(
      { privateKey: this.privateKey, timestampMark, mtu: options.mtu ?? 1420 },
      {
        primitives,
        random: lab.random,
        port: this.port,
        inside: { deliver: (delivered) => this.#deliver(delivered, options.answers) },
        outside: { send: (bytes, destination, mark) => this.#outside.send(bytes, destination, mark) },
      },
    );
    this.#outside = this.#bind();
  }

  #outside;

  #deliver(delivered: Uint8Array, answers: string | undefined): void {
    this.#tun.deliver(delivered);
    if (answers !== undefined)
      this.tunnel.fromInside(packet(this.inside, answers, `answer to ${payloadOf(delivered)}`), this.time);
  }

  #bind() {
    return this.#lab.internet.socket(this.endpoint, (datagram) => {
      const { bytes, source } = datagram;
      if (!this.isUp) return;
      const waits = this.workOff !== undefined && messageType(bytes) !== TRANSPORT_TYPE;
      if (!waits) this.tunnel.fromOutside(bytes, source, this.time);
      else if (this.queue.length < HANDSHAKE_QUEUE_LENGTH) this.queue.push(datagram);
    });
  }

  /** Receives the message that waits longest. */
  receiveNext(): void {
    const next = this.queue.shift();
    if (next !== undefined) this.tunnel.fromOutside(next.bytes, next.source, this.time, this.queue.length);
  }

  /** The host is reached at, and sends from, another address. */
  moveTo(endpoint: Endpoint): void {
    this.#lab.internet.socket(this.endpoint, () => undefined);
    this.endpoint = endpoint;
    this.#outside = this.#bind();
  }

  get time(): Time {
    return { now: this.#lab.now, wallclock: NEW_YEAR_2030 + this.#lab.now + this.clockOffset };
  }

  get publicKey(): Uint8Array {
    return this.tunnel.device.publicKey;
  }

  get id(): string {
    return this.tunnel.device.id;
  }

  /** How this host looks as somebody's peer. */
  asPeer(changes: Partial<PeerConfig> = {}): PeerConfig {
    return {
      publicKey: this.publicKey,
      allowedIps: [parsePrefix(`${this.inside}/${this.inside.includes(':') ? 128 : 32}`)],
      endpoints: [this.endpoint],
      ...changes,
    };
  }

  knows(other: Host, changes: Partial<PeerConfig> = {}): void {
    this.tunnel.setPeer(other.asPeer(changes), this.time);
  }

  send(other: Host, text: string): void {
    this.tunnel.fromInside(packet(this.inside, other.inside, text), this.time);
  }

  /** The payloads that came out of the tunnel since the last call. */
  received(): string[] {
    return this.#tun.take().map(payloadOf);
  }

  statusOf(other: Host) {
    const status = this.tunnel.device.status(other.id);
    if (status === undefined) throw new Error('no such peer');
    return status;
  }

  dropped(reason: Parameters<Tunnel['plane']['drops']['of']>[0]): number {
    return [this.tunnel.plane, this.tunnel.device, this.port].reduce(
      (sum, { drops }) => sum + drops.of(reason),
      0,
    );
  }
}

export class Lab {
  now = 1000;
  /** One way. */
  latency = 10;
  readonly random: (length: number) => Uint8Array;
  readonly internet = new MemoryInternet();
  /** All that was ever sent. */
  readonly wire: Seen[] = [];
  /** What happens to a datagram: true lets it pass. */
  passes: (datagram: Seen) => boolean = () => true;
  readonly #hosts: Host[] = [];
  #underWay: { readonly due: number; readonly datagram: Datagram }[] = [];
  #lastTick = 0;

  constructor(seed = 1) {
    this.random = seededRandom(seed * 2654435761);
  }

  host(options: HostOptions): Host {
    const host = new Host(this, options);
    this.#hosts.push(host);
    return host;
  }

  /** The host is gone for good: crashed, with all it knew. */
  crash(host: Host): void {
    host.isUp = false;
    this.#hosts.splice(this.#hosts.indexOf(host), 1);
  }

  run(milliseconds: number): void {
    const end = this.now + milliseconds;
    this.#collect();
    while (this.now < end) {
      this.now += STEP;
      const due = this.#underWay.filter((one) => one.due <= this.now);
      this.#underWay = this.#underWay.filter((one) => one.due > this.now);
      for (const { datagram } of due) this.internet.deliver(datagram);
      for (const host of this.#hosts) if (host.isUp) host.workOff?.(host);
      if (this.now - this.#lastTick >= TICK) {
        this.#lastTick = this.now;
        for (const host of this.#hosts) if (host.isUp) host.tunnel.tick(host.time);
      }
      this.#collect();
    }
  }

  /** Puts a datagram on the wire that no host has sent, or sends one again. */
  inject(datagram: Datagram): void {
    this.internet.deliver(datagram);
    this.#collect();
  }

  #collect(): void {
    for (const datagram of this.internet.take()) {
      const seen = { ...datagram, at: this.now, type: messageType(datagram.bytes) };
      this.wire.push(seen);
      if (this.passes(seen)) this.#underWay.push({ due: this.now + this.latency, datagram });
    }
  }

  /** What was seen on the wire since `from`, by type and sender. */
  seen(type: number, sender?: Host, from = 0): Seen[] {
    return this.wire.filter(
      (one) =>
        one.at >= from && one.type === type && (sender === undefined || one.source === sender.endpoint),
    );
  }
}

export const ALICE: HostOptions = { endpoint: { address: '192.0.2.1', port: 51820 }, inside: '10.0.0.1' };
export const BOB: HostOptions = { endpoint: { address: '198.51.100.2', port: 51820 }, inside: '10.0.0.2' };
export const EVE: HostOptions = { endpoint: { address: '203.0.113.66', port: 666 }, inside: '10.0.0.66' };

/** Alice and bob, who know each other; no session yet. */
export const twoHosts = (seed?: number): { lab: Lab; alice: Host; bob: Host } => {
  const lab = new Lab(seed);
  const alice = lab.host(ALICE);
  const bob = lab.host(BOB);
  alice.knows(bob);
  bob.knows(alice);
  return { lab, alice, bob };
};

/** The same with a session that alice initiated; all that went before is forgotten. */
export const twoHostsInSession = (seed?: number): ReturnType<typeof twoHosts> => {
  const hosts = twoHosts(seed);
  hosts.alice.send(hosts.bob, 'hello');
  hosts.lab.run(50);
  hosts.bob.send(hosts.alice, 'hello');
  hosts.lab.run(50);
  hosts.alice.received();
  hosts.bob.received();
  hosts.lab.wire.splice(0);
  return hosts;
};

/** A keepalive is transport data of 32 bytes. */
export const isKeepalive = (one: Seen): boolean => one.type === 4 && one.bytes.length === 32;
export const isData = (one: Seen): boolean => one.type === 4 && one.bytes.length > 32;
