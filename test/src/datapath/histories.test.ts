// The workers and their readable twin through the same random histories (test/fuzz/targets/workers.ts): other ones each time,
// and those of the seed in VL3_SEED again. For longer: npm run fuzz -- --target workers --minutes 10.

import { expect, test } from 'vitest';
import { savedCases } from '../../fuzz/corpus.ts';
import { failureOf, fuzz } from '../../fuzz/engine.ts';
import { duplexTarget, workersTarget } from '../../fuzz/targets/workers.ts';

const BUDGET = { executions: 200, time: 4000 };

const TARGETS = [
  ['a thread for each direction', workersTarget],
  ['one thread for both', duplexTarget],
] as const;

test.each(TARGETS)(
  'with %s the fast path does what the reference does, in the saved cases',
  async (_, target) => {
    await using open = await target.open();
    for (const { name, input } of savedCases(workersTarget.name))
      expect(await failureOf(open, input), name).toBeUndefined();
  },
);

test.each(TARGETS)(
  'with %s the fast path sends, delivers and drops what the reference does, through random histories',
  async (_, target) => {
    const seed = process.env['VL3_SEED'] ?? String(Date.now());
    const { executions, failure } = await fuzz(target, { seed, budget: BUDGET, minimising: 100 });
    const input = failure && Buffer.from(failure.minimal).toString('hex');
    expect(failure && { input, error: failure.error }, `VL3_SEED=${seed}`).toBeUndefined();
    expect(executions).toBeGreaterThan(0);
  },
);
