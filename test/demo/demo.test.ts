// The demo, as a newcomer runs it.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isLong } from '../lab/long.ts';
import { processesMarked } from '../lab/processes.ts';
import { COMMANDS } from '../lab/program.ts';

interface Summary {
  run: string;
  held: boolean;
  steps: { step: string; held: boolean; detail: string }[];
}

test('the demo holds in every step and leaves nothing behind', { timeout: 900_000 }, () => {
  const main = join(import.meta.dirname, 'main.ts');
  const env = { ...process.env, [COMMANDS]: '' };
  const args = [main, '-o', 'json', '--rounds', isLong ? '3' : '1'];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env,
  });
  const summary: Summary = JSON.parse(stdout);
  expect(summary.steps.filter((step) => !step.held)).toEqual([]);
  expect({ held: summary.held, status }, stderr).toEqual({ held: true, status: 0 });
  expect(summary.steps.length).toBeGreaterThanOrEqual(20);

  expect(summary.run).toMatch(/^vl3d-/);
  expect(readdirSync('/run/netns').filter((name) => name.startsWith(summary.run))).toEqual([]);
  expect(processesMarked(`VL3_LAB=${summary.run}`)).toEqual([]);
  expect(existsSync(`/run/vl3-lab/${summary.run}`)).toBe(false);
});
