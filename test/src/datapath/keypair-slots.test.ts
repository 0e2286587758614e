import { expect, test } from 'vitest';
import type { Keypair } from '../../../native-free/device/data-plane.ts';
import { KeypairSlots } from '../../../src/datapath/keypair-slots.ts';
import {
  createSharedMemory,
  NO_SLOT,
  SharedState,
  workerNumber,
} from '../../../src/datapath/shared-state.ts';

const key = new Uint8Array(32);
const keypair = (localIndex: number): Keypair => ({
  localIndex,
  remoteIndex: 1,
  sendKey: key,
  receiveKey: key,
  isInitiator: false,
  createdAt: 0,
});

test('handshakes past the last keypair slot throw nothing, and the next one passes when a slot is free', () => {
  const state = new SharedState(createSharedMemory(1, 4));
  const slots = new KeypairSlots(state);
  for (let index = 0; index < 4; index++) expect(slots.install(0, keypair(index))).toBe(true);
  expect(slots.install(0, keypair(4))).toBe(false);
  expect(state.findKeypair(4)).toBe(NO_SLOT);
  expect(slots.slotOf(4, 0)).toBeUndefined();
  expect(state.findKeypair(3)).not.toBe(NO_SLOT);
  slots.remove(0);
  expect(slots.install(0, keypair(4))).toBe(true);
  expect(state.findKeypair(4)).not.toBe(NO_SLOT);
});

test('at the end no key is left anywhere in the shared memory, whether in use, retired or replaced', () => {
  const memory = createSharedMemory(2, 8);
  const state = new SharedState(memory);
  const slots = new KeypairSlots(state);
  const secret = { sendKey: new Uint8Array(32).fill(0xa5), receiveKey: new Uint8Array(32).fill(0xa5) };
  for (const index of [100, 101, 102]) slots.install(0, { ...keypair(index), ...secret });
  const bytes = Buffer.from(memory.buffer);
  expect(bytes.filter((byte) => byte === 0xa5)).toHaveLength(3 * 64);
  state.enter(workerNumber('egress', 0));
  state.enter(workerNumber('ingress', 0));
  slots.remove(100);
  slots.install(1, { ...keypair(101), ...secret });
  // A worker may still seal with them.
  expect(bytes.filter((byte) => byte === 0xa5)).toHaveLength(4 * 64);
  slots.wipeAll();
  expect(bytes.includes(0xa5)).toBe(false);
});
