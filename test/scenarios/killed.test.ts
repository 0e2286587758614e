// The agent dies by SIGKILL at steps of attaching, detaching, joining and leaving: two in the midst of each. All:
// killed.long.test.ts.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { spreadSteps } from '../lab/faults.ts';
import { KilledSteps, OPERATIONS } from './killed-steps.ts';

/** The steps are cut into so many parts. */
const PARTS = 3;

let steps: KilledSteps;

beforeAll(async () => {
  steps = await KilledSteps.create();
}, 120_000);

afterAll(() => steps?.[Symbol.asyncDispose]());

test.each(OPERATIONS)(
  'an agent that dies at a step of %s comes to what was asked, and leaves nothing over',
  async (operation) => {
    const trace = await steps.trace(operation);
    expect(trace.length).toBeGreaterThan(10);
    const died: string[] = [];
    for (const at of spreadSteps(trace.length, PARTS + 1).slice(1, -1)) {
      const step = await steps.dieAt(operation, at);
      if (step !== undefined) died.push(step);
    }
    console.log(`${operation}: ${trace.length} steps, died at\n  ${died.join('\n  ')}`);
    expect(died.length).toBeGreaterThan(0);
  },
  300_000,
);
