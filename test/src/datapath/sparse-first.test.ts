// What one worker receives first, with real sockets on the loopback and a file for a TUN: the messages of sparse flows, past those
// that came before them, and none of either kind is lost or comes twice.

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { buildAllowedIpsTable } from '../../../native-free/device/allowed-ips-table.ts';
import type { Keypair } from '../../../native-free/device/data-plane.ts';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { REPLAY_WINDOW } from '../../../native-free/noise/replay.ts';
import { LOW_LATENCY_CLASS } from '../../../native-free/wire/sparse-flows.ts';
import { createAead } from '../../../src/datapath/aead.ts';
import {
  Counters,
  createCounterMemory,
  INGRESS_COUNTERS,
  readCounts,
} from '../../../src/datapath/counters.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createHandOver } from '../../../src/datapath/hand-over.ts';
import { Ingress, socketsOfIngress } from '../../../src/datapath/ingress.ts';
import { KeypairSlots } from '../../../src/datapath/keypair-slots.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import { encodeSockaddr, sockaddrLength } from '../../../src/datapath/sockaddr.ts';
import { setInt } from '../../../src/datapath/socket-options.ts';
import { closeUdp, openUdp, type UdpSockets } from '../../../src/datapath/udp.ts';
import { type Configuration, DATAGRAM_LENGTH, EVENT_LENGTH } from '../../../src/datapath/worker-protocol.ts';
import { sendto } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { packet, seal } from './eve.ts';
import { keypairs } from './tunnel.ts';

const PACKET = 24;
const VNET_HEADER = 10;
const NUMBER_OFFSET = 20;
const DEVICE = 0;
const PEER = 0;
const IPPROTO_IP = 0;
const IP_TOS = 1;

let directory: string;
let tun: number;
let udp: UdpSockets;
let sender: UdpSockets;
let arena: Arena;
let scratch: Arena;
let channel: MessageChannel;
let counts: SharedArrayBuffer;
let far: Keypair;
let ingress: Ingress;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3t-'));
  tun = openSync(join(directory, 'tun'), 'w');
  udp = openUdp({ port: 0, allowOffloads: false, sparseFirst: true });
  sender = openUdp({ port: 0, allowOffloads: false });
  arena = new Arena(Ingress.ARENA + (128 << 10));
  scratch = new Arena(4096);
  channel = new MessageChannel();
  counts = createCounterMemory(INGRESS_COUNTERS);
  const state = new SharedState(createSharedMemory(1, 4));
  ingress = new Ingress({
    pair: 0,
    handOver: createHandOver([-1]),
    arena,
    aead: createAead(arena),
    state,
    counters: new Counters(INGRESS_COUNTERS, counts),
    udp,
    poller: new Poller(arena, -1, 0, socketsOfIngress(udp)),
    events: new EventSink(createRing(EVENT_LENGTH, 64), channel.port2),
    datagrams: new Ring(createRing(DATAGRAM_LENGTH, 4)),
    port: channel.port2,
  });
  const allowedIps = buildAllowedIpsTable([{ prefix: parsePrefix('10.0.0.1/32'), value: PEER }]);
  const changes: Configuration[] = [
    { sequence: 1, change: { kind: 'add-device', device: DEVICE, fds: [tun], mtu: 1420, offload: 'none' } },
    { sequence: 2, change: { kind: 'set-allowed-ips', device: DEVICE, allowedIps } },
  ];
  for (const change of changes) channel.port1.postMessage(change);
  const [theirs, ours] = keypairs();
  far = theirs;
  state.initPeer(PEER, DEVICE);
  new KeypairSlots(state).install(PEER, ours);
  ingress.configure();
});
afterEach(() => {
  channel.port1.close();
  closeUdp(udp);
  closeUdp(sender);
  closeSync(tun);
  arena.unmap();
  scratch.unmap();
  rmSync(directory, { recursive: true, force: true });
});

/** The packet of this number, sealed with the counter of the same. */
const send = (number: number, trafficClass: number): void => {
  const inside = packet('10.0.0.1', '10.0.0.2', PACKET);
  new DataView(inside.buffer).setUint32(NUMBER_OFFSET, number);
  const message = seal(far, number, inside);
  const sockaddr = encodeSockaddr({ address: '127.0.0.1', port: udp.port });
  setInt(scratch, sender.v4, IPPROTO_IP, IP_TOS, trafficClass);
  scratch.bytes.set(message, 0);
  scratch.bytes.set(sockaddr, 2048);
  const length = sockaddrLength(sockaddr[0] ?? 0);
  expect(sendto(sender.v4, scratch.address, message.length, 0, scratch.address + 2048, length)).toBe(
    message.length,
  );
};

/** The numbers of the packets that came out, in their order. */
const written = (): number[] => {
  const bytes = readFileSync(join(directory, 'tun'));
  const size = VNET_HEADER + PACKET;
  return Array.from({ length: bytes.length / size }, (_, i) =>
    bytes.readUInt32BE(i * size + VNET_HEADER + NUMBER_OFFSET),
  );
};

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

test('a message of a sparse flow comes past all that was sent before it', () => {
  for (const number of numbers(0, 100)) send(number, 0);
  send(100, LOW_LATENCY_CLASS);
  send(101, LOW_LATENCY_CLASS | 1);
  ingress.turn(0);
  expect(written()).toEqual([100, 101, ...numbers(0, 100)]);
});

test('sparse flows that send much between them do not keep bulk waiting', () => {
  for (const number of numbers(0, 64)) send(number, 0);
  for (const number of numbers(64, 1064)) send(number, LOW_LATENCY_CLASS);
  ingress.turn(0);
  const first = written();
  expect(first.filter((number) => number < 64)).toEqual(numbers(0, 64));
  expect(first.filter((number) => number >= 64).length).toBeLessThan(300);
  for (let turn = 0; turn < 10; turn++) ingress.turn(0);
  expect(written().filter((number) => number >= 64)).toEqual(numbers(64, 1064));
});

test('a message overtakes as many as a replay window holds, and neither it nor one of those counts as replayed', () => {
  const bulk = numbers(REPLAY_WINDOW - 500, REPLAY_WINDOW);
  send(0, 0);
  for (const number of bulk) send(number, 0);
  send(REPLAY_WINDOW, LOW_LATENCY_CLASS);
  for (let turn = 0; turn < 10; turn++) ingress.turn(0);
  expect(written()).toEqual([REPLAY_WINDOW, 0, ...bulk]);
  send(REPLAY_WINDOW, 0);
  send(bulk[0] ?? 0, LOW_LATENCY_CLASS);
  ingress.turn(0);
  expect(readCounts(INGRESS_COUNTERS, counts)).toMatchObject({
    packets: bulk.length + 2,
    'dropped:replayed': 2,
  });
});
