// A worker's copy of a key is the key of the keypair it asks for, whatever main does to the slot meanwhile.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { KeyCache } from '../../../src/datapath/key-cache.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import { Arena } from '../../../src/ffi/memory.ts';

const SLOT = 1;
const keyOf = (n: number): Uint8Array => new Uint8Array(32).fill(n);

let arena: Arena;
let state: SharedState;
let cache: KeyCache;

beforeEach(() => {
  arena = new Arena(4096);
  state = new SharedState(createSharedMemory(4, 16));
  cache = new KeyCache(arena, state);
});
afterEach(() => arena.unmap());

const install = (generation: number, key: Uint8Array): void =>
  state.installKeypair(SLOT, generation, 0, generation, 0, 0, key, key);
const sendKey = (): Uint8Array => {
  const at = cache.sendKey(SLOT);
  return arena.bytes.slice(at, at + 32);
};

test('a slot with a new keypair gives the new key', () => {
  install(1, keyOf(1));
  expect(sendKey()).toEqual(keyOf(1));
  state.retireKeypair(SLOT);
  install(2, keyOf(2));
  expect(sendKey()).toEqual(keyOf(2));
});

test('two keypairs that were both retired just before their use are not taken for one another', () => {
  for (const n of [1, 2]) {
    install(n, keyOf(n));
    state.retireKeypair(SLOT);
    expect(sendKey()).toEqual(keyOf(n));
  }
});

test('no key stays after its keypair was retired', () => {
  for (const retireFirst of [false, true]) {
    install(1, keyOf(1));
    if (retireFirst) state.retireKeypair(SLOT);
    const at = cache.sendKey(SLOT);
    if (!retireFirst) state.retireKeypair(SLOT);
    cache.wipeIfRetired();
    expect(arena.bytes.slice(at, at + 32)).toEqual(keyOf(0));
  }
});
