import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { REGISTRY } from '../../../native-free/reconcile/documents.ts';
import { SeenStore } from '../../../native-free/reconcile/seen-store.ts';
import { AgentState } from '../../../src/agent/state.ts';

const stamp = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

/** As a watch tells it. */
const at = (storeId: string, revision: bigint) => ({
  storeId,
  revision,
  stamp: stamp(`${storeId} ${revision}`),
});

/** As a heartbeat's answer tells it. */
const answer = (storeId: string) => ({ storeId, stamp: stamp(`${storeId} 0`) });

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
  expect(seen.position).toEqual({ storeId: '', revision: 0n, stamp: stamp('') });
  expect(seen.watched(at('one', 7n), false)).toBe(false);
  seen.watched(at('one', 5n), false);
  seen.checkpoint();
  expect(new SeenStore(state).position).toEqual(at('one', 7n));
});

test('another store is noticed once, by whoever comes first', () => {
  const seen = new SeenStore(state);
  seen.watched(at('one', 7n), false);
  expect(seen.answered(answer('two'), seen.position)).toBe(true);
  expect(seen.position).toEqual(at('two', 0n));
  expect(seen.watched(at('two', 3n), false)).toBe(false);
  expect(seen.watched(at('three', 3n), false)).toBe(true);
});

test('a store that went back is told how far it was before that is forgotten', () => {
  const seen = new SeenStore(state);
  seen.watched(at('one', 90n), false);
  const early = at('one', 80n);
  expect(seen.watched(at('one', 40n), true)).toBe(false);
  expect(seen.watched(at('one', 41n), false)).toBe(false);
  // A heartbeat that was on its way before it knew.
  seen.answered(answer('one'), early);
  expect(seen.position.revision).toBe(90n);
  seen.answered(answer('one'), seen.position);
  expect(seen.position).toEqual(at('one', 41n));
});

test('the stamp is the one of the position, over a restart too, and one that is far too long is none', () => {
  const seen = new SeenStore(state);
  seen.watched(at('one', 7n), false);
  seen.watched(at('one', 5n), false);
  expect(seen.position.stamp).toEqual(stamp('one 7'));
  seen.checkpoint();
  expect(new SeenStore(state).position.stamp).toEqual(stamp('one 7'));
  seen.answered(answer('two'), seen.position);
  expect(seen.position.stamp).toEqual(stamp('two 0'));
  seen.watched({ storeId: 'two', revision: 9n, stamp: new Uint8Array(65) }, false);
  expect(seen.position).toEqual({ storeId: 'two', revision: 9n, stamp: stamp('') });
});

test('a position that was saved without a stamp gets one as soon as the registry says it again', () => {
  state.put(REGISTRY, 'seen', { storeId: 'one', revision: '7' });
  const seen = new SeenStore(state);
  expect(seen.position).toEqual({ storeId: 'one', revision: 7n, stamp: stamp('') });
  seen.watched(at('one', 7n), false);
  expect(seen.position.stamp).toEqual(stamp('one 7'));
});
