// Wishes are tried when they are due, more seldom each time, and stay until they are struck.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { WISH, type WishDocument } from '../../../native-free/reconcile/documents.ts';
import { AgentState } from '../../../src/agent/state.ts';
import { Wishes } from '../../../src/agent/wishes.ts';

let directory: string;
let state: AgentState;
let now = 0;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-wishes-'));
  state = new AgentState(directory);
  now = 0;
});
afterEach(() => {
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

const wish: WishDocument = {
  id: 'w1',
  network: 'red',
  workload: 'web',
  labels: {},
  netns: '/run/netns/web',
  netnsId: '4:1',
  interfaceName: 'red',
  fixed: [],
  preferred: [],
  askedAt: 0,
  reason: '',
};
const failure = (message: string) => new Vl3Error('unavailable', message);
const due = (wishes: Wishes) => wishes.takeDue().map(({ id }) => id);
const isDue = (wishes: Wishes) => due(wishes).length > 0;

test('one that fails is due again after 1, 2, 4, 8 and then every 10 seconds', () => {
  const wishes = new Wishes({ state, now: () => now });
  wishes.put(wish);
  const waits = [];
  expect(isDue(wishes)).toBe(true);
  for (let i = 0; i < 6; i++) {
    expect(isDue(wishes)).toBe(false);
    wishes.failed('w1', failure('gone'));
    const from = now;
    while (!isDue(wishes)) now += 500;
    waits.push(now - from);
  }
  expect(waits).toEqual([1000, 2000, 4000, 8000, 10_000, 10_000]);
});

test('the reason is kept, also for the next life, in which it is due at once', () => {
  const wishes = new Wishes({ state, now: () => now });
  wishes.put(wish);
  wishes.failed('w1', failure('the registry is gone'));
  const next = new Wishes({ state, now: () => now });
  expect(next.get('w1')?.reason).toBe('the registry is gone');
  expect(due(next)).toEqual(['w1']);
});

test('one that was struck does not come back by failing', () => {
  const wishes = new Wishes({ state, now: () => now });
  wishes.put(wish);
  expect(wishes.find('red', '4:1')).toEqual(wish);
  wishes.strike('w1');
  wishes.failed('w1', failure('late'));
  expect(wishes.all).toEqual([]);
  expect(due(wishes)).toEqual([]);
});

test('what was tried while it was being attached, and is wished for again later, is due again', () => {
  const wishes = new Wishes({ state, now: () => now });
  wishes.put(wish);
  expect(isDue(wishes)).toBe(true);
  expect(isDue(wishes)).toBe(false);
  // Whoever attaches it deletes the wish with the same write.
  state.delete(WISH, wish.id);
  wishes.tried(wish.id);
  state.put(WISH, wish.id, { ...wish, reason: 'this node lost its prefix' });
  expect(isDue(wishes)).toBe(true);
});
