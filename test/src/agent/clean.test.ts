// What `vl3 agent clean` removes of a directory, on throwaway ones. Interfaces and namespaces: test/scenarios/clean.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { cleanNode } from '../../../src/agent/clean.ts';
import { AgentState } from '../../../src/agent/state.ts';

const logger = pino({ level: 'silent' });

/** Two directories that are gone afterwards, and the removal of an agent that uses them. */
const place = () => {
  const directory = mkdtempSync(join(tmpdir(), 'vl3t-clean-'));
  const stateDirectory = join(directory, 'state');
  const runDirectory = join(directory, 'run');
  mkdirSync(stateDirectory);
  mkdirSync(runDirectory);
  const netnsPrefix = `vl3t-${directory.slice(-6)}-`;
  return {
    stateDirectory,
    runDirectory,
    clean: () => cleanNode({ stateDirectory, runDirectory, netnsPrefix }, logger),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
};

test('a state directory that holds what is not the agent’s keeps it', async () => {
  using there = place();
  new AgentState(there.stateDirectory)[Symbol.dispose]();
  mkdirSync(join(there.stateDirectory, 'ca'));
  for (const name of ['identity.json', 'enrolling-key.pem', '.identity.json.new', 'store.db', 'ca/key.pem'])
    writeFileSync(join(there.stateDirectory, name), '');
  const removed = await there.clean();
  expect(removed).toContain(join(there.stateDirectory, 'agent.db'));
  expect(removed).not.toContain(there.stateDirectory);
  expect(readdirSync(there.stateDirectory).sort()).toEqual(['ca', 'store.db']);
  expect(readdirSync(join(there.stateDirectory, 'ca'))).toEqual(['key.pem']);
});

test('a state directory with nothing else in it goes, and then there is nothing to remove', async () => {
  using there = place();
  new AgentState(there.stateDirectory)[Symbol.dispose]();
  expect(await there.clean()).toEqual([
    join(there.stateDirectory, 'agent.db'),
    there.stateDirectory,
    there.runDirectory,
  ]);
  expect(await there.clean()).toEqual([]);
});

test('what cannot be removed is named with a remedy', async () => {
  using there = place();
  mkdirSync(join(there.stateDirectory, 'identity.json'));
  await expect(there.clean()).rejects.toThrow(/cannot remove .*identity\.json \(.*\): mend that/);
});
