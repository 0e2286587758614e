// The simulator over some seeds, and as many more as there is time for: whatever it finds is printed with its seed. Real
// cryptography for the first seeds, a toy for the many. Campaigns: `npm run simulate`.

import { expect, test, vi } from 'vitest';
import type { Step } from '../../native-free/simulator/plan.ts';
import { makePlan } from '../../native-free/simulator/planner.ts';
import { shrink } from '../../native-free/simulator/shrink.ts';
import { simulate } from '../../native-free/simulator/simulator.ts';
import { isLong } from '../lab/long.ts';
import { failureLines, Statistics } from './report.ts';

const small = { steps: 30, nodes: [2, 4], usesToyPrimitives: false } as const;
const usual = { steps: 80, nodes: [2, 8], usesToyPrimitives: true } as const;
/** Weeks of virtual time. */
const quiet = { steps: 40, nodes: [2, 4], usesToyPrimitives: true, pace: 'quiet' } as const;
const large = { steps: 60, nodes: [30, 30], usesToyPrimitives: true } as const;

const FAULTS = [
  'attack',
  'back-up-registry',
  'break-streams',
  'crash-agent',
  'crash-registry',
  'create-rule',
  'cut-registry',
  'delete-node',
  'delete-rule',
  'empty-registry',
  'exclude',
  'fill-disk',
  'flood',
  'halt-machine',
  'invite-partner',
  'jump-clock',
  'kill-agent',
  'kill-partner',
  'kill-registry',
  'label',
  'lose-machine',
  'move',
  'partition',
  'pretend',
  'rebind-nat',
  'restore-registry',
  'reuse-token',
  'revoke-partner',
  'roll-back-registry',
  'rotate-ca',
  'set-clock',
  'shrink-mtu',
  'stop-agent',
  'suspend-machine',
  'weather',
];

// On a busy machine a seed takes long, and a failing one is made smaller before it is told.
vi.setConfig({ testTimeout: 600_000 });

const statistics = new Statistics();

const mustHold = (seed: string, options: Parameters<typeof makePlan>[1]): void => {
  const result = simulate(makePlan(seed, options));
  statistics.add(result);
  if (result.violation === undefined) return;
  const flags = `--seed ${seed} --steps ${options.steps} --nodes ${options.nodes.join('-')}`;
  const more = `${options.usesToyPrimitives ? '' : ' --noble'}${options.pace === 'quiet' ? ' --quiet' : ''}`;
  const command = `npm run simulate -- ${flags}${more}`;
  expect.fail(failureLines(result, shrink(result, {}, 60), command).join('\n'));
};

/** Seeds from 1 on: `least` of them, and by `npm run test:long` as many as there is time for. */
const forAbout = (milliseconds: number, least: number, options: Parameters<typeof makePlan>[1]): void => {
  const until = performance.now() + (isLong ? milliseconds : 0);
  for (let seed = 1; seed <= least || performance.now() < until; seed++) mustHold(String(seed), options);
};

test('whatever happens to a few machines with real cryptography, every invariant holds', () => {
  forAbout(20_000, 3, small);
});

test('whatever happens to some machines, every invariant holds', () => {
  forAbout(40_000, 6, usual);
});

test('whatever happens to thirty machines, every invariant holds', () => {
  mustHold('1', large);
});

test('whatever happens to a few machines over weeks, every invariant holds', () => {
  forAbout(20_000, 1, quiet);
});

test('the same seed gives the same trace, and another seed another', () => {
  const [first, again, other] = ['1', '1', '2'].map((seed) => simulate(makePlan(seed, usual)).hash);
  expect(again).toBe(first);
  expect(other).not.toBe(first);
});

test('a node that was on a network with its clock ahead is heard when it comes back with it right', () => {
  const pod = (name: string, node: string, at: number): Step => ({
    kind: 'start-pod',
    pod: name,
    node,
    networks: ['red'],
    at,
  });
  const hour = 3_600_000;
  const result = simulate({
    seed: '1',
    pace: 'lively',
    outageBudgetMs: 6 * 24 * hour,
    usesToyPrimitives: true,
    nodes: ['n1', 'n2'].map((name) => ({ name, site: undefined })),
    sites: [],
    networks: ['red'],
    steps: [
      { kind: 'set-clock', node: 'n1', aheadMs: hour, at: 1000 },
      pod('p1', 'n1', 2000),
      { kind: 'stop-pod', pod: 'p1', saysGoodbye: true, at: 5000 },
      // By then it has left.
      { kind: 'set-clock', node: 'n1', aheadMs: 0, at: 60_000 },
      pod('p2', 'n1', 61_000),
      pod('p3', 'n2', 61_000),
    ],
  });
  expect(result.violation).toBeUndefined();
  expect(result.convergedAfter).toBeLessThan(60_000);
});

test('nearly every kind of fault was injected and invariants were judged', () => {
  console.log(statistics.lines().join('\n'));
  for (const [, count] of statistics.faults.entries()) expect(count).toBeGreaterThan(0);
  expect(FAULTS).toEqual(expect.arrayContaining(statistics.faults.entries().map(([name]) => name)));
  expect(statistics.faults.entries().length).toBeGreaterThan(FAULTS.length * 0.8);

  expect(statistics.judged.entries().length).toBeGreaterThanOrEqual(8);
  expect(statistics.counters.of('echo replies')).toBeGreaterThan(1000);
});
