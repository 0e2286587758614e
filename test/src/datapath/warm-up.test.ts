// The warm-up really runs the packet code, end to end, and leaves nothing behind in the worker it warms.

import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { EGRESS_COUNTERS, INGRESS_COUNTERS, readCounts } from '../../../src/datapath/counters.ts';
import {
  DUPLEX_ARENA,
  duplexOf,
  EGRESS_ARENA,
  egressOf,
  INGRESS_ARENA,
  ingressOf,
} from '../../../src/datapath/loops.ts';
import { warmUpEgress, warmUpIngress } from '../../../src/datapath/warm-up.ts';
import type { WorkerKind, WorkerOptions } from '../../../src/datapath/worker-protocol.ts';
import type { Arena } from '../../../src/ffi/memory.ts';
import { workerOptions } from './sandboxed-egress.ts';

/** In each of which there is some of what is rare. */
const ROUNDS = 75;
/** Of ingress, after egress has received what it sent. */
const FEW = 30;

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

/** Warms up, and returns what the sandbox counted. */
const countsOf = <Loop>(
  kind: WorkerKind,
  create: (arena: Arena, options: WorkerOptions) => Loop,
  warmUp: (own: WorkerOptions, create: (arena: Arena, options: WorkerOptions) => Loop) => unknown,
) => {
  const own = workerOptions(kind);
  let { counters } = own;
  const before = openDescriptors();
  warmUp(own, (arena, sandbox) => {
    ({ counters } = sandbox);
    return create(arena, sandbox);
  });
  expect(openDescriptors()).toBe(before);
  expect(new Uint8Array(own.memory.buffer).every((byte) => byte === 0)).toBe(true);
  return {
    egress: readCounts(EGRESS_COUNTERS, counters.egress),
    ingress: readCounts(INGRESS_COUNTERS, counters.ingress),
  };
};

const dropped = (counts: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).filter(([name, n]) => name.startsWith('dropped') && n > 0));

const DROPPED_OUT = { 'dropped:no-peer': 3 * ROUNDS, 'dropped:given-up': ROUNDS };
const droppedIn = (rounds: number): Record<string, number> => ({
  'dropped:bad-mac1': rounds,
  'dropped:forged': rounds,
  'dropped:malformed': rounds,
  'dropped:replayed': rounds,
  'dropped:unknown-index': rounds,
});

test('egress seals and sends all of it', () => {
  const { egress } = countsOf('egress', egressOf, (own, create) => warmUpEgress(own, create, EGRESS_ARENA));
  expect(egress.packets).toBeGreaterThan(1500);
  expect(egress.sends).toBeGreaterThan(25);
  expect(dropped(egress)).toEqual(DROPPED_OUT);
  expect(egress.unreachables).toBeGreaterThan(0);
});

test('ingress opens, coalesces and writes all of it', () => {
  const warmUp = (own: WorkerOptions, create: typeof ingressOf): unknown =>
    warmUpIngress(own, create, INGRESS_ARENA);
  const { ingress } = countsOf('ingress', ingressOf, warmUp);
  expect(ingress.packets).toBeGreaterThan(1000);
  expect(ingress['super-packets']).toBeGreaterThan(50);
  expect(ingress.handshakes).toBeGreaterThan(0);
  expect(dropped(ingress)).toEqual(droppedIn(ROUNDS));
});

test('a thread of both directions receives what it sends, too', () => {
  const sent = countsOf('duplex', duplexOf, (own, create) => warmUpEgress(own, create, DUPLEX_ARENA));
  expect(sent.egress.packets).toBeGreaterThan(1500);
  expect(dropped(sent.egress)).toEqual(DROPPED_OUT);
  expect(sent.ingress.packets).toBeGreaterThan(500);
  expect(sent.ingress.writes).toBeGreaterThan(50);
  const warmUp = (own: WorkerOptions, create: typeof duplexOf): unknown =>
    warmUpIngress(own, create, DUPLEX_ARENA);
  const { ingress } = countsOf('duplex', duplexOf, warmUp);
  expect(ingress.packets).toBeGreaterThan(1000);
  expect(dropped(ingress)).toEqual(droppedIn(FEW));
});
