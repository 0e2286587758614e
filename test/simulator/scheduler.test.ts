// Virtual time goes on, or the run ends: no seed keeps a campaign.

import { expect, test } from 'vitest';
import { Scheduler } from '../../native-free/simulator/scheduler.ts';
import { Trace } from '../../native-free/simulator/trace.ts';

const schedulerThatTells = (): Scheduler =>
  new Scheduler(new Trace(), (message) => {
    throw new Error(message);
  });

test('who is looked at again at the same moment, over and over, is found by name', () => {
  const scheduler = schedulerThatTells();
  const spin = (): void => {
    scheduler.after(0, 'n1 looks again', spin);
  };
  spin();
  expect(() => scheduler.runUntil(1000)).toThrow(/time does not go on: the last is "n1 looks again"/);
  expect(scheduler.now).toBe(0);
});

test('what goes on without end is ended, although time goes on', () => {
  const scheduler = schedulerThatTells();
  scheduler.every(1, 1, 'n1 asks again', () => undefined);
  expect(() => scheduler.runUntil(Number.POSITIVE_INFINITY)).toThrow(/it does not end: .* "n1 asks again"/);
});

test('as much as happens at one moment of a large plan is let pass', () => {
  const scheduler = schedulerThatTells();
  let done = 0;
  for (let i = 0; i < 40_000; i++)
    scheduler.at(5, 'a datagram', () => {
      done++;
    });
  scheduler.runUntil(10);
  expect(done).toBe(40_000);
});
