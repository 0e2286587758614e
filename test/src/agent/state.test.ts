import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { AgentState, type DocumentKind } from '../../../src/agent/state.ts';

const COLOUR: DocumentKind<{ hue: number }> = { kind: 'colour', schema: z.object({ hue: z.number() }) };
const SHAPE: DocumentKind<{ corners: number }> = { kind: 'shape', schema: z.object({ corners: z.number() }) };

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-state-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('documents survive a reopening, kind by kind', () => {
  {
    using state = new AgentState(directory);
    state.put(COLOUR, 'red', { hue: 0 });
    state.put(COLOUR, 'green', { hue: 120 });
    state.put(SHAPE, 'red', { corners: 3 });
    state.delete(COLOUR, 'green');
  }
  using state = new AgentState(directory);
  expect(state.list(COLOUR)).toEqual([{ name: 'red', value: { hue: 0 } }]);
  expect(state.get(SHAPE, 'red')).toEqual({ corners: 3 });
  expect(state.get(SHAPE, 'green')).toBeUndefined();
});

test('a transaction that throws leaves nothing behind', () => {
  using state = new AgentState(directory);
  const failing = () =>
    state.transact(() => {
      state.put(COLOUR, 'red', { hue: 0 });
      state.transact(() => state.put(COLOUR, 'blue', { hue: 240 }));
      throw new Error('crash');
    });
  expect(failing).toThrow('crash');
  expect(state.list(COLOUR)).toEqual([]);
  state.put(COLOUR, 'red', { hue: 1 });
  expect(state.get(COLOUR, 'red')).toEqual({ hue: 1 });
});

test('the state is readable by its owner only', () => {
  using state = new AgentState(join(directory, 'agent'));
  state.put(COLOUR, 'red', { hue: 0 });
  expect(statSync(join(directory, 'agent')).mode & 0o777).toBe(0o700);
  expect(statSync(join(directory, 'agent', 'agent.db')).mode & 0o777).toBe(0o600);
});

test('a second agent on the same state is refused with the remedy', () => {
  using state = new AgentState(directory);
  state.put(COLOUR, 'red', { hue: 0 });
  expect(() => new AgentState(directory)).toThrow(/another agent is using .*--state-dir/);
});

test('a document that does not fit its schema is refused by name', () => {
  using state = new AgentState(directory);
  state.put(SHAPE, 'red', { corners: 3 });
  const misread: DocumentKind<{ hue: number }> = { ...COLOUR, kind: 'shape' };
  expect(() => state.get(misread, 'red')).toThrow(/shape "red" that cannot be read/);
});

test('a file that is not a database is refused', () => {
  writeFileSync(join(directory, 'agent.db'), 'this is not a database, this is a shopping list '.repeat(50));
  expect(() => new AgentState(directory)).toThrow(/cannot use .* for the agent's state/);
});

test('a state of a newer version is refused', () => {
  const db = new DatabaseSync(join(directory, 'agent.db'));
  db.exec('PRAGMA user_version=99');
  db.close();
  expect(() => new AgentState(directory)).toThrow(/written by a newer vl3/);
});
