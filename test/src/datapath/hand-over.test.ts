// What one ingress worker of several does with datagrams that are another's. The others do not work: who waited for one of
// them would wake it again and again.

import { closeSync } from 'node:fs';
import { MessageChannel } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createAead } from '../../../src/datapath/aead.ts';
import {
  Counters,
  createCounterMemory,
  INGRESS_COUNTERS,
  type IngressCounter,
} from '../../../src/datapath/counters.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createHandOver } from '../../../src/datapath/hand-over.ts';
import { Ingress, socketsOfIngress } from '../../../src/datapath/ingress.ts';
import { KeypairSlots } from '../../../src/datapath/keypair-slots.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { SegmentRing } from '../../../src/datapath/segment-ring.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import { AF_INET, encodeSockaddr, PATH_LENGTH, sockaddrLength } from '../../../src/datapath/sockaddr.ts';
import { closeUdp, openUdp, type UdpSockets } from '../../../src/datapath/udp.ts';
import { DATAGRAM_LENGTH, EVENT_LENGTH } from '../../../src/datapath/worker-protocol.ts';
import { eventfd, read, sendto } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { keypairs } from './tunnel.ts';

const PAIRS = 4;
const OWN = 1;
const LANES = [0, 2, 3] as const;
const PEER = 0;
const EFD_NONBLOCK = 0x800;

let udp: UdpSockets;
let arena: Arena;
let channel: MessageChannel;
let wakeFds: number[];
let counters: Counters<IngressCounter>;
let slots: KeypairSlots;
let ingress: Ingress;
/** From the worker at hand, by who takes. */
let given: SegmentRing[];

beforeEach(() => {
  udp = openUdp({ port: 0, allowOffloads: false });
  arena = new Arena(Ingress.ARENA + (256 << 10));
  channel = new MessageChannel();
  wakeFds = Array.from({ length: PAIRS }, () => eventfd(0, EFD_NONBLOCK));
  counters = new Counters(INGRESS_COUNTERS, createCounterMemory(INGRESS_COUNTERS));
  const state = new SharedState(createSharedMemory(1, 16, PAIRS));
  state.initPeer(PEER, 0);
  slots = new KeypairSlots(state);
  const handOver = createHandOver(wakeFds);
  given = (handOver.rings[OWN] ?? []).map((ring) => new SegmentRing(ring));
  ingress = new Ingress({
    pair: OWN,
    handOver,
    arena,
    aead: createAead(arena),
    state,
    counters,
    udp,
    poller: new Poller(arena, wakeFds[OWN] ?? -1, 0, socketsOfIngress(udp)),
    events: new EventSink(createRing(EVENT_LENGTH, 64), channel.port2),
    datagrams: new Ring(createRing(DATAGRAM_LENGTH, 64)),
    port: channel.port2,
  });
});
afterEach(() => {
  closeUdp(udp);
  arena.unmap();
  channel.port1.close();
  for (const fd of wakeFds) closeSync(fd);
});

const count = (name: IngressCounter): number => counters.values[counters.at[name]] ?? 0;

/** How often the worker of that pair was woken since the last time. */
const wokenOf = (pair: number): number => {
  const scratch = new Arena(8);
  try {
    return read(wakeFds[pair] ?? -1, scratch.address, 8) === 8 ? scratch.view.getUint32(0, true) : 0;
  } finally {
    scratch.unmap();
  }
};

/** How many datagrams wait for the worker of that pair. */
const waitingFor = (pair: number): number => {
  const bytes = new Uint8Array(PATH_LENGTH + 65_536);
  let taken = 0;
  while (given[pair]?.take(bytes, PATH_LENGTH, 0)) taken += 1;
  return taken;
};

const datagram = (type: number, receiver: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, receiver, true);
  return bytes;
};

/** The receiver index of a new session in that lane. */
const session = (lane: number): number => {
  const [near] = keypairs();
  const localIndex = ((near.localIndex & ~(PAIRS - 1)) | lane) >>> 0;
  slots.install(PEER, { ...near, localIndex });
  return localIndex;
};

test("of another's session, goes to who has it", () => {
  for (const lane of LANES) ingress.inject(datagram(4, session(lane), 1000), 1000);
  expect([0, 1, 2, 3].map(waitingFor)).toEqual([1, 0, 1, 1]);
  expect(count('handed-over')).toBe(3);
});

test('of no session, is nobody else to look at', () => {
  const junk = new Uint8Array(64_000);
  for (let at = 0; at < junk.length; at += 64) junk.set(datagram(4, LANES[at % 3] ?? 0, 64), at);
  for (let n = 0; n < 30; n++) ingress.inject(junk, 64);
  expect(LANES.map(waitingFor)).toEqual([0, 0, 0]);
  expect(count('dropped:unknown-index')).toBe(30_000);
});

test('that is no message at all, is nobody else to look at', () => {
  // Its first byte has the kernel take it for transport data.
  for (let n = 0; n < 30; n++) ingress.inject(datagram(0x104, OWN, 65_000), 65_000);
  for (const type of [0, 1, 2, 3, 5]) ingress.inject(datagram(type, OWN, 65_000), 65_000);
  ingress.inject(new Uint8Array(1), 1);
  expect(LANES.map(waitingFor)).toEqual([0, 0, 0]);
  expect(count('dropped:malformed')).toBe(36);
});

test('that is a handshake, goes to the first, and nobody waits when that is flooded', () => {
  const batch = new Uint8Array(148 * 400);
  for (let at = 0; at < batch.length; at += 148) batch.set(datagram(1, 0, 148), at);
  for (let n = 0; n < 30; n++) ingress.inject(batch, 148);
  expect(wokenOf(0)).toBe(0);
  const waiting = waitingFor(0);
  expect(waiting).toBeGreaterThan(1000);
  expect([count('handed-over'), count('dropped:queue-full')]).toEqual([waiting, 400 * 30 - waiting]);
});

test('is told of before all that there is to receive has been received', () => {
  const index = session(2);
  const scratch = new Arena(256);
  scratch.bytes.set(encodeSockaddr({ address: '127.0.0.1', port: udp.port }), 128);
  scratch.bytes.set(datagram(4, index, 64), 0);
  // Each receive brings four.
  for (let n = 0; n < 20; n++)
    sendto(udp.v4, scratch.address, 64, 0, scratch.address + 128, sockaddrLength(AF_INET));
  scratch.unmap();
  ingress.turn();
  expect(waitingFor(2)).toBe(20);
  expect(wokenOf(2)).toBe(5);
});
