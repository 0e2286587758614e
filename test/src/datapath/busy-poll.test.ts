// When a thread stays awake for an answer, for how long, and how often at most.

import { describe, expect, test } from 'vitest';
import { BusyPoll, quietOn } from '../../../src/datapath/busy-poll.ts';

/** Of which there are whole numbers in what is expected below. */
const POLL_MS = 1 / 128;
const LONGEST_MS = 0.4;
const QUIET_MS = 1;

/** A clock that only polling and `sleep` move on; something comes at `answerAt`. */
class World {
  now = 1000;
  answerAt = Number.POSITIVE_INFINITY;
  polls = 0;
  /** Its thread is not run for so long in the next poll. */
  stopped = 0;
  readonly #busyPoll = new BusyPoll(this, QUIET_MS, () => this.now);

  wait(timeoutMs?: number): boolean {
    expect(timeoutMs).toBe(0);
    this.polls += 1;
    this.now += POLL_MS + this.stopped;
    this.stopped = 0;
    return this.now >= this.answerAt;
  }

  sleep(ms: number): void {
    this.now += ms;
  }

  /** One packet leaves after so long, and is answered after so long. Whether it stayed awake for that. */
  ask(quietMs: number, answerMs: number): boolean {
    this.sleep(quietMs);
    this.#busyPoll.turned(this.now, true);
    this.answerAt = this.now + answerMs;
    const hasCome = this.#busyPoll.wait();
    const { polls } = this;
    expect(this.#busyPoll.wait()).toBe(false);
    expect(this.polls).toBe(polls);
    this.now = Math.max(this.now, this.answerAt);
    this.#busyPoll.turned(this.now, false);
    return hasCome;
  }

  /** Does more than send one packet. */
  work(quietMs: number): boolean {
    this.sleep(quietMs);
    this.#busyPoll.turned(this.now, false);
    return this.#busyPoll.wait();
  }
}

const NEVER = 100;

describe('after one packet out of quiet', () => {
  test('it asks until the answer comes, and only once for each', () => {
    const world = new World();
    expect(world.ask(10, 0.25)).toBe(true);
    expect(world.polls).toBe(32);
  });

  test('it gives up after 0.4 ms', () => {
    const world = new World();
    expect(world.ask(10, NEVER)).toBe(false);
    expect(world.polls * POLL_MS).toBeGreaterThanOrEqual(LONGEST_MS - POLL_MS);
    expect(world.polls * POLL_MS).toBeLessThanOrEqual(LONGEST_MS + POLL_MS);
  });
});

test('it does not ask after a packet that came soon after other work, nor after more than one packet', () => {
  const world = new World();
  expect(world.work(10)).toBe(false);
  expect(world.ask(0.9, 0.1)).toBe(false);
  expect(world.polls).toBe(0);
  expect(world.ask(1.1, 0.1)).toBe(true);
});

test('in vain it tries ever more rarely, down to once in 256 times, and often again once answers come soon', () => {
  const world = new World();
  /** After how many times it tries again. */
  const timesUntilTry = (answerMs: number): number => {
    const { polls } = world;
    for (let times = 1; times <= 1000; times++) {
      world.ask(1000, answerMs);
      if (world.polls > polls) return times;
    }
    return Number.POSITIVE_INFINITY;
  };
  const inVain = Array.from({ length: 11 }, () => timesUntilTry(NEVER));
  expect(inVain).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
  const answered = Array.from({ length: 6 }, () => timesUntilTry(0.2));
  expect(answered).toEqual([256, 64, 16, 4, 1, 1]);
});

test('it takes a twentieth of the time at most, whatever comes', () => {
  const world = new World();
  const start = world.now;
  let answered = 0;
  for (let n = 0; n < 5000; n++) answered += world.ask(1, 0.35) ? 1 : 0;
  const took = world.polls * POLL_MS;
  const share = (took - 20) / (world.now - start);
  expect(share).toBeLessThanOrEqual(0.051);
  expect(share).toBeGreaterThan(0.04);
  expect(answered).toBeGreaterThan(500);
});

test('after hours of quiet it takes no more at once than it may save', () => {
  const world = new World();
  world.sleep(8 * 3_600_000);
  for (let n = 0; n < 200; n++) world.ask(1, 0.35);
  expect(world.polls * POLL_MS).toBeLessThan(20 + 0.4 + 200 * 1.35 * 0.05);
});

test('it goes on as before when the machine slept while it asked', () => {
  const world = new World();
  world.stopped = 8 * 3_600_000;
  world.ask(10, 0.2);
  const hasCome = Array.from({ length: 10 }, () => world.ask(100, 0.2));
  expect(hasCome.slice(-3)).toEqual([true, true, true]);
});

test('on one processor nothing is quiet enough', () => {
  expect(quietOn(1)).toBe(Number.POSITIVE_INFINITY);
  expect(quietOn(2)).toBe(1);
});
