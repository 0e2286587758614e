import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import type { DocumentKind } from '../../../native-free/reconcile/document-store.ts';
import { cleanNode } from '../../../src/agent/clean.ts';
import { AgentState } from '../../../src/agent/state.ts';

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
  expect(() => new AgentState(directory)).toThrow(/agent\.db is damaged .*vl3 agent clean/);
});

test('a state of a newer version is refused', () => {
  const db = new DatabaseSync(join(directory, 'agent.db'));
  db.exec('PRAGMA user_version=99');
  db.close();
  expect(() => new AgentState(directory)).toThrow(/written by a newer vl3/);
});

test('a full disk is a sentence with a remedy, told until a write succeeds', () => {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', directory]);
  try {
    using state = new AgentState(directory);
    state.put(COLOUR, 'red', { hue: 0 });
    const fill = (): void => {
      for (let hue = 0; hue < 1000; hue++) state.put(COLOUR, `${'x'.repeat(4000)}${hue}`, { hue });
    };
    const sentence = /agent\.db cannot be written .*: make room on its disk$/;
    const refused = { code: 'resource-exhausted', message: expect.stringMatching(sentence) };
    expect(fill).toThrow(expect.objectContaining(refused));
    expect(state.problem).toMatch(sentence);
    expect(() => state.transact(fill)).toThrow(expect.objectContaining(refused));
    expect(state.get(COLOUR, 'red')).toEqual({ hue: 0 });
    execFileSync('mount', ['-o', 'remount,size=8m', directory]);
    state.put(COLOUR, 'green', { hue: 120 });
    expect(state.problem).toBe('');
  } finally {
    execFileSync('umount', [directory]);
  }
});

test('a damaged page is a sentence with a remedy, and no obstacle to cleaning', async () => {
  {
    using state = new AgentState(directory);
    for (let hue = 0; hue < 500; hue++) state.put(COLOUR, `colour ${hue}`, { hue });
  }
  const file = openSync(join(directory, 'agent.db'), 'r+');
  const { size } = fstatSync(file);
  writeSync(file, randomBytes(size - 4096), 0, size - 4096, 4096);
  closeSync(file);
  {
    using state = new AgentState(directory);
    expect(() => state.list(COLOUR)).toThrow(/agent\.db cannot be used .*vl3 agent clean/);
  }
  const place = { stateDirectory: directory, runDirectory: directory, netnsPrefix: `vl3t-${process.pid}-` };
  expect(await cleanNode(place, pino({ level: 'silent' }))).toContain(directory);
  expect(existsSync(directory)).toBe(false);
});
