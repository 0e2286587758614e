import { pino } from 'pino';
import { expect, test } from 'vitest';
import { SeenStore } from '../../../native-free/reconcile/seen-store.ts';
import type { SignedRecord } from '../../../native-free/registry/record.ts';
import { batches, Recovery } from '../../../src/agent/recovery.ts';

const due = (count: number, size: number): { readonly signed: SignedRecord; readonly at: number }[] =>
  Array.from({ length: count }, (_, at) => ({
    at,
    signed: {
      record: new Uint8Array(size - 100),
      signature: new Uint8Array(64),
      certificateChain: [new Uint8Array(20), new Uint8Array(16)],
    },
  }));

test('testimony is cut into calls of at most 64 records, all of them, in order', () => {
  const all = due(150, 1_000);
  const calls = [...batches(all)];
  expect(calls.map((call) => call.length)).toEqual([64, 64, 22]);
  expect(calls.flat()).toEqual(all);
});

test('and of at most a megabyte, however large the records are', () => {
  expect([...batches(due(10, 400_000))].map((call) => call.length)).toEqual([2, 2, 2, 2, 2]);
  expect([...batches(due(2, 3_000_000))].map((call) => call.length)).toEqual([1, 1]);
  expect([...batches([])]).toEqual([]);
});

test('a registry that recovers is told everything once, and again when it was started again meanwhile', () => {
  let told = 0;
  const recovery = new Recovery({
    memberships: () => [],
    client: () => {
      throw new Error('not asked');
    },
    seen: new SeenStore({
      get: () => undefined,
      put: () => {},
      delete: () => {},
      list: () => [],
      transact: (work) => work(),
    }),
    renewLeases: () => told++,
    report: () => {},
    logger: pino({ level: 'silent' }),
    clock: { monotonic: () => 0 },
  });
  const [first, second] = [new Uint8Array([1]), new Uint8Array([2])];
  recovery.heard(false, first);
  expect([told, recovery.problems.length]).toEqual([0, 0]);
  recovery.heard(true, first);
  recovery.heard(true, first);
  expect([told, recovery.problems.length]).toEqual([1, 1]);
  // Its store may have been replaced by the same old copy once more.
  recovery.heard(true, second);
  expect(told).toBe(2);
  recovery.heard(false, second);
  expect([told, recovery.problems.length]).toEqual([2, 0]);
});
