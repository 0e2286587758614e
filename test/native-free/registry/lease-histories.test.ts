// Random histories of leases: nodes renew, join, grow, give back and fall silent, the registry stops, crashes, is emptied and
// put back to earlier copies, and calls and answers get lost. No prefix is ever usable by two nodes at once, and no node
// loses what it holds.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Counts, TERMS, World, type WorldNode } from './lease-world.ts';

const NAMES = ['n0', 'n1', 'n2', 'n3'];

/** How often each kind of step comes: in quiet times leases run out, in bad ones the registry loses its memory. */
const KINDS = {
  pass: [10, 10],
  'pass-long': [10, 3],
  renew: [14, 14],
  send: [4, 4],
  'time-out': [2, 2],
  arrive: [4, 4],
  join: [6, 6],
  lease: [4, 4],
  release: [3, 3],
  leave: [1, 1],
  part: [3, 1],
  heal: [3, 3],
  silence: [1, 1],
  handover: [0, 2],
  announce: [6, 6],
  testify: [0, 5],
  'stop-start': [0.2, 2],
  stop: [0, 1],
  start: [1, 3],
  backup: [0, 2],
  restore: [0, 0.7],
  'copy-back': [0, 0.7],
  empty: [0, 0.7],
  settle: [0, 0.7],
  'delete-node': [0.5, 0.5],
  enrol: [1, 2],
} as const;
type Kind = keyof typeof KINDS;
const isKind = (text: string): text is Kind => Object.hasOwn(KINDS, text);

const stepOf = (profile: 0 | 1) =>
  fc.record({
    kind: fc.oneof(
      ...Object.entries(KINDS).map(([kind, weights]) => ({
        weight: Math.round(weights[profile] * 10),
        arbitrary: fc.constant(kind),
      })),
    ),
    node: fc.nat(NAMES.length - 1),
    x: fc.nat(1000).map((value) => value / 1000),
    isLost: fc.boolean(),
  });

const renew = (world: World, node: WorldNode): void => {
  world.sendRenewal(node);
  world.arrive(node, false);
};

/** What each kind of step does. */
const STEPS: Readonly<Record<Kind, (world: World, node: WorldNode, x: number, isLost: boolean) => void>> = {
  pass: (world, _, x) => world.pass(TERMS.tickMs * (1 + 4 * x)),
  'pass-long': (world, _, x) => world.pass(TERMS.termMs * 0.4 * x),
  renew: (world, node, x, isLost) => {
    world.sendRenewal(node);
    world.arrive(node, isLost && x < 0.3);
  },
  send: (world, node) => world.sendRenewal(node),
  'time-out': (world, node) => world.timeOut(node),
  arrive: (world, node, _, isLost) => world.arrive(node, isLost),
  join: (world, node, x, isLost) => world.join(node, isLost && x < 0.5),
  lease: (world, node, x, isLost) => world.lease(node, isLost && x < 0.5),
  release: (world, node, x, isLost) => world.release(node, Math.floor(x * 8), isLost),
  leave: (world, node, _, isLost) => world.leave(node, isLost),
  part: (world, node) => world.part(node),
  heal: (_, node) => {
    node.isParted = false;
  },
  // Long enough for a prefix to become another's.
  silence: (world, node) => {
    world.part(node);
    const others = world.nodes.filter((one) => one !== node);
    for (let i = 0; i < 5; i++) {
      world.pass(TERMS.termMs / 4);
      for (const other of others) renew(world, other);
    }
    for (const other of [...others, ...others]) world.lease(other, false);
  },
  // What one gives back after a backup is another's.
  handover: (world, node, x) => {
    world.backup();
    for (let i = 0; i < 3; i++) world.release(node, 0, false);
    for (const other of world.nodes) if (other !== node) world.lease(other, false);
    if (x < 0.5) world.restore(x < 0.25);
  },
  announce: (world, node, _, isLost) => world.announce(node, !isLost),
  testify: (world, node) => world.testify(node),
  'stop-start': (world, _, x, isLost) => {
    world.stop(isLost);
    world.pass(TERMS.termMs * 0.5 * x * x);
    world.start();
  },
  stop: (world, _node, _x, isLost) => world.stop(isLost),
  start: (world) => world.start(),
  backup: (world) => world.backup(),
  restore: (world) => world.restore(true),
  'copy-back': (world) => world.restore(false),
  empty: (world) => world.empty(),
  settle: (world) => world.settle(),
  'delete-node': (world, node) => world.deleteNode(node),
  enrol: (world, node) => world.enrol(node),
};

const newCounts = (): Counts => ({
  steps: 0,
  renewed: 0,
  pending: 0,
  recoveries: 0,
  adopted: 0,
  restored: 0,
  ended: 0,
  purged: 0,
  excused: 0,
});

/** More with VL3_LEASE_RUNS: a thousand take a minute. */
const RUNS = Number(process.env['VL3_LEASE_RUNS'] ?? 120);
/** What happens in every run of this length; testimony and conflicts are rarer. */
const COMMON: readonly (keyof Counts)[] = ['renewed', 'recoveries', 'adopted', 'ended', 'purged'];

test('no prefix is ever usable by two nodes, and no node loses what it holds', () => {
  const counts = newCounts();
  const length = { minLength: 1, maxLength: 120, size: 'max' } as const;
  const history = fc.oneof(fc.array(stepOf(0), length), fc.array(stepOf(1), length));
  // Of 4 or 8 prefixes, so that they are leased again and again.
  const pool = fc.constantFrom('10.9.0.0/22', '10.9.0.0/21');
  fc.assert(
    fc.property(history, pool, (steps, poolV4) => {
      const world = new World(NAMES, counts, poolV4);
      for (const { kind, node: index, x, isLost } of steps) {
        const node = world.nodes[index];
        if (node === undefined || !isKind(kind)) continue;
        counts.steps++;
        STEPS[kind](world, node, x, isLost);
        world.mustHold();
      }
      // When all is well again, the registry knows what everyone holds.
      world.start();
      for (const node of world.nodes) node.isParted = false;
      for (let round = 0; round < 3; round++) {
        for (const node of world.nodes) {
          world.enrol(node);
          world.sendRenewal(node);
          world.arrive(node, false);
        }
        if (round === 1) world.settle();
        world.pass(TERMS.tickMs);
      }
      const state = world.state();
      for (const node of world.nodes) {
        for (const prefix of world.uses(node)) expect(state.lease('red', prefix)?.value.node).toBe(node.name);
      }
    }),
    { numRuns: RUNS },
  );
  // Not a test that passes since nothing happened.
  const expected = RUNS >= 1000 ? [...COMMON, 'pending' as const, 'restored' as const] : COMMON;
  expect(expected.filter((what) => counts[what] === 0)).toEqual([]);
}, 600_000);
