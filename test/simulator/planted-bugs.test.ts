// The simulator finds every bug that is planted, says by which seed, replays it exactly and makes it smaller. Were one not
// found, a clean run would mean nothing.

import { expect, test, vi } from 'vitest';
import { INVARIANTS } from '../../native-free/simulator/invariants.ts';
import { shrink } from '../../native-free/simulator/shrink.ts';
import { type Result, simulate } from '../../native-free/simulator/simulator.ts';
import { isLong } from '../lab/long.ts';
import { PLANTED_BUGS, type PlantedBug, plantedPlan } from './planted-bugs.ts';
import { failureLines } from './report.ts';

// On a busy machine many seeds take long.
vi.setConfig({ testTimeout: 600_000 });

const OPTIONS = { steps: 60, nodes: [2, 4], usesToyPrimitives: true } as const;
const MOST_SEEDS = 300;
const SMALLER_PLANS_TRIED = isLong ? 25 : 10;

const find = (bug: PlantedBug): Result => {
  for (let seed = 1; seed <= MOST_SEEDS; seed++) {
    const result = simulate(plantedPlan(bug, String(seed), OPTIONS), bug.hooks);
    if (result.violation?.invariant === bug.breaks) return result;
  }
  throw new Error(`not found with ${MOST_SEEDS} seeds`);
};

for (const bug of PLANTED_BUGS)
  test(`the simulator finds ${bug.name}`, () => {
    const found = find(bug);
    const again = simulate(found.plan, bug.hooks);
    expect(again.hash).toBe(found.hash);
    expect(again.violation).toEqual(found.violation);

    const smallest = shrink(found, bug.hooks, SMALLER_PLANS_TRIED);
    expect(smallest.violation?.invariant).toBe(bug.breaks);
    expect(smallest.plan.steps.length).toBeLessThan(found.plan.steps.length);
    console.log(failureLines(found, smallest, 'this test').slice(0, 5).join('\n'));
  });

test('a bug is planted for every invariant', () => {
  expect(new Set(PLANTED_BUGS.map(({ breaks }) => breaks))).toEqual(new Set(INVARIANTS));
});
