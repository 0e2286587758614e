import { pino } from 'pino';
import { expect, test } from 'vitest';
import { WakeUp } from '../../../src/agent/wake-up.ts';

const scene = (outcome: () => Promise<void>) => {
  let now = 1_000_000;
  let taken = 0;
  const takeDown = async (): Promise<void> => {
    taken += 1;
    await outcome();
  };
  const wakeUp = new WakeUp({ monotonic: () => now, takeDown, logger: pino({ level: 'silent' }) });
  const after = (milliseconds: number): boolean => {
    now += milliseconds;
    return wakeUp.mayGoOn();
  };
  return { after, taken: () => taken };
};
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('an agent that was always there never waits', () => {
  const { after, taken } = scene(async () => {});
  for (let i = 0; i < 100; i++) expect(after(100)).toBe(true);
  expect(taken()).toBe(0);
});

test('one that was away goes on only when what ended has been taken down', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { after, taken } = scene(() => promise);
  expect(after(7 * 24 * 3_600_000)).toBe(false);
  expect(after(100)).toBe(false);
  resolve();
  await turn();
  expect(after(100)).toBe(true);
  expect(taken()).toBe(1);
});

test('what cannot be taken down, or not in time, does not hold up the rest', async () => {
  const failing = scene(() => Promise.reject(new Error('no')));
  expect(failing.after(60_000)).toBe(false);
  await turn();
  expect(failing.after(100)).toBe(true);

  const hanging = scene(() => new Promise(() => {}));
  expect(hanging.after(60_000)).toBe(false);
  for (let i = 0; i < 99; i++) expect(hanging.after(100)).toBe(false);
  expect(hanging.after(100)).toBe(true);
});

test('one that falls asleep again while it takes down looks again', async () => {
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  const pending = [first.promise, second.promise];
  const { after, taken } = scene(async () => await pending.shift());
  expect(after(60_000)).toBe(false);
  expect(after(60_000)).toBe(false);
  expect(taken()).toBe(2);
  first.resolve();
  await turn();
  expect(after(100)).toBe(false);
  second.resolve();
  await turn();
  expect(after(100)).toBe(true);
});
