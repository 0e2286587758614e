// The agent dies by SIGKILL at every step of attaching, detaching, joining and leaving, each in turn.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { KilledSteps, OPERATIONS } from './killed-steps.ts';

let steps: KilledSteps;

beforeAll(async () => {
  steps = await KilledSteps.create();
}, 120_000);

afterAll(() => steps?.[Symbol.asyncDispose]());

test.each(OPERATIONS)(
  'an agent that dies at any step of %s comes to what was asked, and leaves nothing over',
  async (operation) => {
    const trace = await steps.trace(operation);
    expect(trace.length).toBeGreaterThan(10);
    const died: string[] = [];
    for (let at = 1; at <= trace.length; at++) {
      const step = await steps.dieAt(operation, at);
      if (step !== undefined) died.push(step);
    }
    console.log(`${operation}: ${trace.length} steps, died at ${died.length}`);
    // What runs side by side makes a few steps more or less.
    expect(died.length).toBeGreaterThan(trace.length / 2);
  },
  1_200_000,
);
