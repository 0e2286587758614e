import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SeenStore } from '../../../src/agent/seen-store.ts';
import { AgentState } from '../../../src/agent/state.ts';

let directory: string;
let state: AgentState;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-seen-'));
  state = new AgentState(directory);
});
afterEach(() => {
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

test('the highest revision that any watch saw is remembered, over a restart too', () => {
  const seen = new SeenStore(state);
  expect(seen.position).toEqual({ storeId: '', revision: 0n });
  expect(seen.watched({ storeId: 'one', revision: 7n }, false)).toBe(false);
  seen.watched({ storeId: 'one', revision: 5n }, false);
  seen.checkpoint();
  expect(new SeenStore(state).position).toEqual({ storeId: 'one', revision: 7n });
});

test('another store is noticed once, by whoever comes first', () => {
  const seen = new SeenStore(state);
  seen.watched({ storeId: 'one', revision: 7n }, false);
  expect(seen.answered('two', seen.position)).toBe(true);
  expect(seen.position).toEqual({ storeId: 'two', revision: 0n });
  expect(seen.watched({ storeId: 'two', revision: 3n }, false)).toBe(false);
  expect(seen.watched({ storeId: 'three', revision: 3n }, false)).toBe(true);
});

test('a store that went back is told how far it was before that is forgotten', () => {
  const seen = new SeenStore(state);
  seen.watched({ storeId: 'one', revision: 90n }, false);
  const early = { storeId: 'one', revision: 80n };
  expect(seen.watched({ storeId: 'one', revision: 40n }, true)).toBe(false);
  expect(seen.watched({ storeId: 'one', revision: 41n }, false)).toBe(false);
  // A heartbeat that was on its way before it knew.
  seen.answered('one', early);
  expect(seen.position.revision).toBe(90n);
  seen.answered('one', seen.position);
  expect(seen.position).toEqual({ storeId: 'one', revision: 41n });
});
