// The warm-up really runs the packet code, end to end, and leaves nothing behind in the worker it warms.

import { readdirSync } from 'node:fs';
import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { createAead } from '../../../src/datapath/aead.ts';
import {
  Counters,
  createCounterMemory,
  EGRESS_COUNTERS,
  INGRESS_COUNTERS,
  readCounts,
} from '../../../src/datapath/counters.ts';
import { Egress } from '../../../src/datapath/egress.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createHandOver } from '../../../src/datapath/hand-over.ts';
import { Ingress } from '../../../src/datapath/ingress.ts';
import { Outbox } from '../../../src/datapath/outbox.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import { warmUpEgress, warmUpIngress } from '../../../src/datapath/warm-up.ts';
import { DATAGRAM_LENGTH, EVENT_LENGTH, type WorkerOptions } from '../../../src/datapath/worker-protocol.ts';
import type { Arena } from '../../../src/ffi/memory.ts';

const SPARE = 128 << 10;
/** In each of which there is some of what is rare. */
const ROUNDS = 60;

const options = (): WorkerOptions => ({
  pair: 0,
  handOver: createHandOver([-1]),
  port: new MessageChannel().port1,
  memory: createSharedMemory(4, 4),
  counters: createCounterMemory(INGRESS_COUNTERS),
  wakeFd: -1,
  udp: { port: 0, v4: -1, v6: -1, offloads: { segmentation: true, coalescing: true } },
  aeadTier: 'openssl-low-level',
  marksSparse: true,
  events: createRing(EVENT_LENGTH, 4),
  extra: createRing(DATAGRAM_LENGTH, 4),
});

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

test('egress seals and sends all of it', () => {
  let counts = createCounterMemory(EGRESS_COUNTERS);
  const create = (arena: Arena, sandbox: WorkerOptions): Egress => {
    counts = sandbox.counters;
    const state = new SharedState(sandbox.memory);
    const counters = new Counters(EGRESS_COUNTERS, sandbox.counters);
    return new Egress({
      pair: 0,
      arena,
      aead: createAead(arena),
      state,
      counters,
      outbox: new Outbox(arena, state, counters, sandbox.udp),
      poller: new Poller(arena, sandbox.wakeFd, 4),
      events: new EventSink(sandbox.events, sandbox.port),
      commands: new Ring(sandbox.extra),
      marksSparse: true,
      port: sandbox.port,
    });
  };
  const own = options();
  const before = openDescriptors();
  warmUpEgress(own, create, Egress.ARENA + Outbox.ARENA + SPARE);
  expect(openDescriptors()).toBe(before);
  const { packets, sends, ...rest } = readCounts(EGRESS_COUNTERS, counts);
  expect(packets).toBeGreaterThan(3000);
  expect(sends).toBeGreaterThan(50);
  const rare = { 'dropped:no-peer': 3 * ROUNDS, 'dropped:given-up': ROUNDS };
  const dropped = Object.entries(rest).filter(([name, count]) => name.startsWith('dropped') && count > 0);
  expect(Object.fromEntries(dropped)).toEqual(rare);
  expect(rest.unreachables).toBeGreaterThan(0);
  expect(new Uint8Array(own.memory.buffer).every((byte) => byte === 0)).toBe(true);
});

test('ingress opens, coalesces and writes all of it', () => {
  let counts = createCounterMemory(INGRESS_COUNTERS);
  const create = (arena: Arena, sandbox: WorkerOptions): Ingress => {
    counts = sandbox.counters;
    return new Ingress({
      pair: 0,
      handOver: sandbox.handOver,
      arena,
      aead: createAead(arena),
      state: new SharedState(sandbox.memory),
      counters: new Counters(INGRESS_COUNTERS, sandbox.counters),
      udp: sandbox.udp,
      poller: new Poller(arena, sandbox.wakeFd, Ingress.SOCKETS),
      events: new EventSink(sandbox.events, sandbox.port),
      datagrams: new Ring(sandbox.extra),
      port: sandbox.port,
    });
  };
  const own = options();
  const before = openDescriptors();
  warmUpIngress(own, create, Ingress.ARENA + SPARE);
  expect(openDescriptors()).toBe(before);
  const counted = readCounts(INGRESS_COUNTERS, counts);
  expect(counted.packets).toBeGreaterThan(2000);
  expect(counted['super-packets']).toBeGreaterThan(100);
  expect(counted.handshakes).toBeGreaterThan(0);
  const dropped = Object.entries(counted).filter(([name, count]) => name.startsWith('dropped') && count > 0);
  expect(Object.fromEntries(dropped)).toEqual({
    'dropped:bad-mac1': ROUNDS,
    'dropped:forged': ROUNDS,
    'dropped:malformed': ROUNDS,
    'dropped:replayed': ROUNDS,
    'dropped:unknown-index': ROUNDS,
  });
});
