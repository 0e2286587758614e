// Every saved case runs again, and every target a short while with inputs that are the same each time.

import { describe, expect, test } from 'vitest';
import { savedCases } from './corpus.ts';
import { failureOf, fuzz } from './engine.ts';
import { TARGETS } from './targets.ts';

const BUDGET = { executions: 1000, time: 600 };

describe.each(TARGETS)('$name: $about', (target) => {
  test('in the saved cases', async () => {
    await using open = await target.open();
    for (const { name, input } of savedCases(target.name)) {
      const failure = await failureOf(open, input);
      expect(failure, name).toBeUndefined();
    }
  });

  test('in a thousand inputs, or as many as there is time for', async () => {
    const { executions, failure } = await fuzz(target, { seed: 'npm test', budget: BUDGET });
    expect(failure && { input: Buffer.from(failure.minimal).toString('hex'), error: failure.error }).toBe(
      undefined,
    );
    expect(executions).toBeGreaterThan(0);
  });
});
