// The warm-up really runs the packet code, end to end, and leaves nothing behind in the worker it warms.

import { readdirSync } from 'node:fs';
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
import { Ingress } from '../../../src/datapath/ingress.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { Ring } from '../../../src/datapath/ring.ts';
import { SharedState } from '../../../src/datapath/shared-state.ts';
import { warmUpEgress, warmUpIngress } from '../../../src/datapath/warm-up.ts';
import type { WorkerOptions } from '../../../src/datapath/worker-protocol.ts';
import type { Arena } from '../../../src/ffi/memory.ts';
import { EGRESS_ARENA, egressParts, workerOptions } from './sandboxed-egress.ts';

const SPARE = 128 << 10;
/** In each of which there is some of what is rare. */
const ROUNDS = 60;

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

test('egress seals and sends all of it', () => {
  let counts = createCounterMemory(EGRESS_COUNTERS);
  const create = (arena: Arena, sandbox: WorkerOptions): Egress => {
    counts = sandbox.counters;
    return new Egress(egressParts(arena, sandbox));
  };
  const own = workerOptions();
  const before = openDescriptors();
  warmUpEgress(own, create, EGRESS_ARENA);
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
  const own = workerOptions();
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
