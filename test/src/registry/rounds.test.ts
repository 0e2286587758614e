import { expect, onTestFinished, test } from 'vitest';
import { Pace } from '../../../src/registry/pace.ts';
import { Rounds } from '../../../src/registry/rounds.ts';

const roundsOf = (tickMs = 60_000) => {
  const rounds = new Rounds({ tickMs, watchers: () => 1 }, new Pace());
  onTestFinished(() => rounds[Symbol.dispose]());
  return rounds;
};
const never = new AbortController().signal;

test('who wants a round while one is held gets another after it', async () => {
  const rounds = roundsOf();
  let served = 0;
  rounds.join(() => {
    if (++served === 1) rounds.want();
  });
  rounds.want();
  rounds.want();
  await rounds.next(never);
  await rounds.next(never);
  expect(served).toBe(2);
});

test('all members are served in the same round, however many they are', async () => {
  const rounds = roundsOf();
  const served = Array.from({ length: 600 }, () => 0);
  for (const i of served.keys()) {
    rounds.join(() => {
      served[i] = (served[i] ?? 0) + 1;
    });
  }
  rounds.want();
  await rounds.next(never);
  expect(new Set(served)).toEqual(new Set([1]));
});

test('who left is not served, and who waits is let go by the signal', async () => {
  const rounds = roundsOf();
  let served = 0;
  const leave = rounds.join(() => served++);
  leave();
  const stop = new AbortController();
  const waiting = rounds.next(stop.signal);
  expect(rounds.isEmpty).toBe(false);
  stop.abort();
  await waiting;
  expect(rounds.isEmpty).toBe(true);
  rounds.want();
  await rounds.next(never);
  expect(served).toBe(0);
});

test('a round is held now and then though nobody wants it', async () => {
  await roundsOf(5).next(never);
});
