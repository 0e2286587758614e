// The datapath and its readable twin side by side: both are told the same and given the same traffic, and after each step they
// must have sent, delivered, dropped and counted the same. Where a device would decide, this does: a session that is confirmed
// is used, and an endpoint that was heard is kept.

import { setImmediate } from 'node:timers/promises';
import { AllowedIps } from '../../../native-free/device/allowed-ips.ts';
import type { Action, DataPlaneEvent, Endpoint, Keypair } from '../../../native-free/device/data-plane.ts';
import { receiveTransport } from '../../../native-free/device/inbound.ts';
import { STAGED_LIMIT, sendPacket } from '../../../native-free/device/outbound.ts';
import { ReferenceDataPlane } from '../../../native-free/device/reference-data-plane.ts';
import { type Prefix, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { REJECT_AFTER_TIME } from '../../../native-free/noise/constants.ts';
import { messageType } from '../../../native-free/wire/message.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { DEVICE } from '../../src/datapath/tunnel.ts';
import { mustEqual } from '../target.ts';
import { ENDS, NAMES } from './counted.ts';
import { countPackets, packetsOf } from './frames.ts';
import { messagesOf } from './messages.ts';
import type { Arrived, Family } from './outsider.ts';
import { type Counts, PEERS, until, type World } from './world.ts';

export const MTU = 1420;
const HOMES = {
  p0: ['10.60.0.0/16', 'fd00:60::/64'],
  p1: ['10.60.2.0/24', 'fd00:60::200/120'],
  p2: ['10.60.3.0/24', 'fd00:60::300/120'],
} as const;
export const PREFIXES: readonly string[] = Object.values(HOMES).flat();

/** Of one peer, with something to spare (src/datapath/staging.ts). */
const STAGED_BYTES = 400_000;

export interface Session {
  readonly peer: string;
  /** As the datapath has it; the other end is the test. */
  readonly keypair: Keypair;
  /** The counter of the next message that the other end sends. */
  counter: number;
  /** What it has sent. */
  readonly sent: Uint8Array[];
}

/** What the workers are given, and the packets that it stands for. */
export interface Sent {
  readonly frame: Uint8Array;
  readonly packets: readonly Uint8Array[];
}

interface Roles {
  current: Session | undefined;
  next: Session | undefined;
  previous: Session | undefined;
}

export class Twins {
  readonly world: World;
  readonly reference: ReferenceDataPlane;
  /** All there ever were in this case; those that are over among them. */
  readonly sessions: Session[] = [];
  readonly #roles = new Map<string, Roles>();
  readonly #events: DataPlaneEvent[] = [];
  #seen = 0;
  readonly #base: Counts;
  readonly #activityBase = new Map<string, readonly [tx: number, rx: number]>();
  readonly #expectedCounts = new Map<string, number>();
  readonly #expectedOutside = new Map<string, Arrived[]>();
  #delivered: Uint8Array[] = [];
  #taken = 0;
  #markers = 0;
  #isSuperPacketStaged = false;

  /** Whatever the case before left behind is gone. */
  static async open(world: World): Promise<Twins> {
    await settle(world, MTU);
    await world.insideIsTaken((world.counts['out dropped:malformed'] ?? 0) + 1);
    // What that led to is told at the end of the turn, and heard before the next immediate.
    await settle(world, MTU);
    await setImmediate();
    world.drain();
    const twins = new Twins(world);
    await twins.#publishAllowedIps();
    return twins;
  }

  private constructor(world: World) {
    this.world = world;
    const allowedIps = new AllowedIps<string>();
    for (const peer of PEERS) for (const prefix of HOMES[peer]) allowedIps.insert(parsePrefix(prefix), peer);
    this.reference = new ReferenceDataPlane(MTU, {
      primitives: opensslPrimitives,
      allowedIps,
      inside: { deliver: (packet) => this.#delivered.push(packet.slice()) },
      outside: {
        send: (bytes, endpoint, mark) => this.#outsideOf(endpoint).push({ bytes: bytes.slice(), mark }),
      },
      report: (event) => this.#events.push(event),
    });
    this.#base = world.counts;
    for (const peer of PEERS) {
      this.#roles.set(peer, { current: undefined, next: undefined, previous: undefined });
      const { txBytes = 0, rxBytes = 0 } = world.end.datapath.activity(DEVICE, peer) ?? {};
      this.#activityBase.set(peer, [txBytes, rxBytes]);
    }
  }

  /** Ends all that there is. */
  close(): void {
    for (const peer of PEERS) {
      this.forget(peer);
      this.apply({ kind: 'drop-staged', peer }, { kind: 'set-endpoint', peer, endpoint: undefined });
    }
  }

  // --- what a device asks for

  apply(...actions: readonly Action[]): void {
    this.world.end.datapath.apply(DEVICE, actions);
    for (const action of actions) this.reference.carryOut(action, monotonicNow());
  }

  /** Begins a session; `asInitiator`: it is used at once, else when the other end has spoken. */
  begin(session: Session, asInitiator: boolean): void {
    const { peer, keypair } = session;
    const roles = this.#rolesOf(peer);
    this.sessions.push(session);
    this.apply({ kind: 'install-keypair', peer, keypair });
    if (roles.next !== undefined) this.#remove(roles.next);
    roles.next = session;
    if (asInitiator) this.#promote(peer);
  }

  #promote(peer: string): void {
    const roles = this.#rolesOf(peer);
    const { current, next, previous } = roles;
    if (next === undefined) return;
    this.apply({ kind: 'use-keypair', peer, localIndex: next.keypair.localIndex });
    if (previous !== undefined) this.#remove(previous);
    this.#roles.set(peer, { current: next, next: undefined, previous: current });
  }

  /** Ends all sessions of a peer. */
  forget(peer: string): void {
    const { current, next, previous } = this.#rolesOf(peer);
    this.apply({ kind: 'use-keypair', peer, localIndex: undefined });
    for (const session of [current, next, previous]) if (session !== undefined) this.#remove(session);
    this.#roles.set(peer, { current: undefined, next: undefined, previous: undefined });
  }

  #remove({ keypair }: Session): void {
    this.apply({ kind: 'remove-keypair', localIndex: keypair.localIndex });
  }

  #rolesOf(peer: string): Roles {
    const roles = this.#roles.get(peer);
    if (roles === undefined) throw new Error(`there is no peer ${peer}`);
    return roles;
  }

  async setMtu(mtu: number): Promise<void> {
    this.reference.mtu = mtu;
    await settle(this.world, mtu);
  }

  /** Gives the prefix to that peer. What is staged stays with its peer in the one, and in the other not. */
  async move(prefix: Prefix, to: string): Promise<void> {
    if (this.#hasStaged) return;
    this.reference.allowedIps.insert(prefix, to);
    await this.#publishAllowedIps();
  }

  async #publishAllowedIps(): Promise<void> {
    const entries = [...this.reference.allowedIps.entries()];
    this.world.end.datapath.setAllowedIps(
      DEVICE,
      entries.map(({ prefix, value }) => ({ prefix, peer: value })),
    );
    await this.world.end.datapath.settled();
  }

  // --- traffic

  /** What may be sent so that no queue overflows; the twins count super-packets to that limit differently. */
  get stagingRoom(): { packets: number; bytes: number } {
    const now = monotonicNow();
    const isCarried = PEERS.every((peer) => {
      const { inUse } = this.reference.peer(peer);
      return inUse !== undefined && now - inUse.keypair.createdAt < REJECT_AFTER_TIME;
    });
    if (isCarried) return { packets: Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY };
    const queues = PEERS.map((peer) => this.reference.peer(peer).staged);
    const bytes = queues.map((queue) => queue.reduce((sum, packet) => sum + packet.length, 0));
    return {
      packets: STAGED_LIMIT - Math.max(...queues.map(({ length }) => length)),
      bytes: STAGED_BYTES - Math.max(...bytes),
    };
  }

  get #hasStaged(): boolean {
    return PEERS.some((peer) => this.reference.peer(peer).staged.length > 0);
  }

  get hasStagedSuperPacket(): boolean {
    return this.#isSuperPacketStaged && this.#hasStaged;
  }

  /** From inside. */
  async send(sent: readonly Sent[]): Promise<void> {
    const now = monotonicNow();
    for (const { frame, packets } of sent) {
      this.world.tap.send(frame);
      for (const packet of packets) this.#expect('out', sendPacket(this.reference, packet.slice(), now));
    }
    if (!this.#hasStaged) this.#isSuperPacketStaged = false;
    else if (sent.some(({ packets }) => packets.length > 1)) this.#isSuperPacketStaged = true;
    await this.check();
  }

  /** From outside, by one endpoint; `runs` are sent as one each and cut by the kernel. Marked alike. */
  async receive(runs: readonly (readonly Uint8Array[])[], from: readonly [0 | 1, Family], mark: number) {
    const [which, family] = from;
    const outsider = this.world.outsiders[which];
    const { port } = this.world.end.datapath;
    for (const run of runs) {
      const size = run.length > 1 ? (run[0]?.length ?? 0) : 0;
      outsider.send(family, port, Buffer.concat(run), size, mark);
      for (const datagram of run) this.#receive(datagram, outsider.endpoint(family), mark);
    }
    await this.#isTaken(runs.reduce((sum, run) => sum + run.length, 0));
    await this.check();
    this.#decide();
    await this.check();
  }

  #receive(datagram: Uint8Array, source: Endpoint, mark: number): void {
    const type = messageType(datagram);
    if (type === undefined) this.#expect('in', 'malformed-message');
    else if (type !== 4) this.#add('in handshakes');
    else this.#expect('in', receiveTransport(this.reference, datagram, source, monotonicNow(), mark));
    // As a device would, at once: later packets are compared with it.
    this.#follow();
  }

  /** Until the workers have counted so many datagrams more. */
  async #isTaken(datagrams: number): Promise<void> {
    this.#taken += datagrams;
    const taken = (): number => {
      const { counts } = this.world;
      return ENDS.reduce((sum, name) => sum + (counts[name] ?? 0) - (this.#base[name] ?? 0), 0);
    };
    await until(
      () => taken() >= this.#taken,
      () => `${taken()} of ${this.#taken} datagrams were taken`,
    );
  }

  /** Endpoints that were heard: the workers send there by themselves. */
  #follow(): void {
    for (const event of this.#events.slice(this.#seen))
      if (event.kind === 'endpoint-moved')
        this.reference.carryOut(
          { kind: 'set-endpoint', peer: event.peer, endpoint: event.endpoint },
          monotonicNow(),
        );
    this.#seen = this.#events.length;
  }

  /** Sessions that were confirmed: staged packets go then. */
  #decide(): void {
    for (const event of this.#events.slice())
      if (event.kind === 'keypair-confirmed') {
        const { next } = this.#rolesOf(event.peer);
        if (next?.keypair.localIndex === event.localIndex) this.#promote(event.peer);
      }
  }

  // --- what must be the same

  #outsideOf({ address, port }: Endpoint): Arrived[] {
    const name = `${address} ${port}`;
    const queue = this.#expectedOutside.get(name) ?? [];
    this.#expectedOutside.set(name, queue);
    return queue;
  }

  #expect(direction: 'in' | 'out', reason: string | undefined): void {
    if (reason !== undefined) this.#add(`${direction} ${reason}`);
  }

  #add(name: string): void {
    this.#expectedCounts.set(name, (this.#expectedCounts.get(name) ?? 0) + 1);
  }

  /** All that was asked so far is done, and alike. */
  async check(): Promise<void> {
    await settle(this.world, this.reference.mtu);
    this.#markers += 1;
    const malformed = this.#expectedCounts.get('out malformed-packet') ?? 0;
    await this.world.insideIsTaken((this.#base['out dropped:malformed'] ?? 0) + malformed + this.#markers);
    // The marker may have passed others.
    await settle(this.world, this.reference.mtu);
    await this.#checkOutside();
    await this.#checkInside();
    this.#checkCounts();
  }

  async #checkOutside(): Promise<void> {
    for (const [i, outsider] of this.world.outsiders.entries())
      for (const family of [4, 6] as const) {
        const expected = this.#outsideOf(outsider.endpoint(family)).splice(0);
        const arrived = await this.world.arrivedAt(i, family, expected.length);
        const what = `what is sent to outsider ${i} over IPv${family}`;
        mustEqual(messagesOf(arrived, this.sessions), messagesOf(expected, this.sessions), what);
      }
  }

  async #checkInside(): Promise<void> {
    const expected = this.#delivered.splice(0).map(plain);
    const count = countPackets(expected);
    const frames = await this.world.written((some) => countPackets(some) >= count);
    mustEqual(packetsOf(frames), packetsOf(expected), 'what is delivered');
  }

  #checkCounts(): void {
    const { drops } = this.reference;
    const actual: Record<string, number> = {};
    const expected: Record<string, number> = {};
    for (const [reason, name] of Object.entries(NAMES)) {
      actual[name] = (this.world.counts[name] ?? 0) - (this.#base[name] ?? 0);
      expected[name] = this.#expectedCounts.get(reason) ?? 0;
    }
    // Of what was staged; a packet that comes and one that was staged may both lack an endpoint.
    for (const [reason, n] of drops.entries()) {
      const name = NAMES[`out ${reason}`] ?? reason;
      expected[name] = (expected[name] ?? 0) + n;
    }
    expected['out dropped:malformed'] = (expected['out dropped:malformed'] ?? 0) + this.#markers;
    expected['in handshakes'] = this.#expectedCounts.get('in handshakes') ?? 0;
    for (const name of ['in handshakes', 'in dropped:queue-full', 'in dropped:write-failed'])
      actual[name] = (this.world.counts[name] ?? 0) - (this.#base[name] ?? 0);
    for (const name of Object.keys(actual))
      mustEqual(actual[name], expected[name] ?? 0, `how many are "${name}"`);
  }

  /** At the end: what the device is told and what it reads. */
  async checkDevice(): Promise<void> {
    const told = (events: readonly DataPlaneEvent[], kind: DataPlaneEvent['kind']): string[] => {
      const names = events
        .filter((event) => event.kind === kind)
        .map((event) => `${event.peer} ${event.kind === 'keypair-confirmed' ? event.localIndex : ''}`);
      return [...new Set(names)].sort();
    };
    const { events, datapath } = this.world.end;
    for (const kind of ['handshake-needed', 'keypair-confirmed'] as const) {
      const expected = told(this.#events, kind);
      await until(
        () => told(events, kind).length >= expected.length,
        () => `${kind} is told of ${told(events, kind)}, not of ${expected}`,
      );
      mustEqual(told(events, kind), expected, `of whom ${kind} is told`);
    }
    for (const peer of PEERS) {
      const [tx, rx] = this.#activityBase.get(peer) ?? [0, 0];
      const { txBytes, rxBytes, sendCounter } = this.reference.activity(peer);
      const real = datapath.activity(DEVICE, peer);
      mustEqual(
        [(real?.txBytes ?? 0) - tx, (real?.rxBytes ?? 0) - rx, real?.sendCounter],
        [txBytes, rxBytes, sendCounter],
        `bytes sent and received, and the counter, of ${peer}`,
      );
      const path = datapath.pathTo(DEVICE, peer);
      const { endpoint } = this.reference.peer(peer);
      mustEqual([path?.address, path?.port], [endpoint?.address, endpoint?.port], `where ${peer} is`);
    }
  }
}

/**
 * The workers take configuration over between two turns: once they have, what they received before is counted to the end, and
 * what main has asked for is done before the next frame is read.
 */
const settle = async (world: World, mtu: number): Promise<void> => {
  world.end.datapath.setMtu(DEVICE, mtu);
  await world.end.datapath.settled();
};

const plain = (packet: Uint8Array): Uint8Array => {
  const frame = new Uint8Array(10 + packet.length);
  frame.set(packet, 10);
  return frame;
};
