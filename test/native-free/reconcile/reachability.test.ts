import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  ANSWER_MS,
  CALL_AGAIN_MS,
  Reachability,
  type ReachabilityFacts,
  type ReachabilityStep,
  SILENCE_MS,
} from '../../../native-free/reconcile/reachability.ts';

const START = 1_000_000;
const NOTHING: ReachabilityStep = { withdraw: [], restore: [], call: [] };

let reachability: Reachability;
beforeEach(() => {
  reachability = new Reachability(() => 0);
});

const peer = (alive: boolean | undefined, heardAt = 0): ReachabilityFacts => ({ peer: 'a', alive, heardAt });
const step = (facts: ReachabilityFacts, now: number, answers = true) =>
  reachability.step([facts], answers, now);

/** A peer that is not alive and silent is withdrawn. */
const withdraw = (): void => {
  step(peer(false), START);
  expect(step(peer(false), START + ANSWER_MS).withdraw).toEqual(['a']);
};

describe('a peer that the registry says is not alive', () => {
  test('is called, and withdrawn when it does not answer', () => {
    expect(step(peer(false), START)).toEqual({ ...NOTHING, call: ['a'] });
    expect(step(peer(false), START + ANSWER_MS - 1)).toEqual(NOTHING);
    expect(step(peer(false), START + ANSWER_MS)).toEqual({ ...NOTHING, withdraw: ['a'], call: ['a'] });
    expect(reachability.isWithdrawn('a')).toBe(true);
  });

  test('stays while packets come from it', () => {
    for (let now = START; now < START + 60_000; now += 1_000)
      expect(step(peer(false, now - 100), now)).toEqual(NOTHING);
  });

  test('stays when it answers the call', () => {
    step(peer(false), START);
    expect(step(peer(false, START + 10), START + 100)).toEqual(NOTHING);
    expect(step(peer(false, START + 10), START + ANSWER_MS)).toEqual(NOTHING);
    expect(reachability.isWithdrawn('a')).toBe(false);
  });

  test('is not withdrawn before ten seconds of silence', () => {
    const heardAt = START - ANSWER_MS;
    expect(step(peer(false, heardAt), START).call).toEqual(['a']);
    expect(step(peer(false, heardAt), heardAt + SILENCE_MS - 1).withdraw).toEqual([]);
    expect(step(peer(false, heardAt), heardAt + SILENCE_MS).withdraw).toEqual(['a']);
  });

  test('is called again and again, 5 to 10 seconds apart', () => {
    for (const random of [0, 0.999]) {
      reachability = new Reachability(() => random);
      const calls: number[] = [];
      for (let now = START; now < START + 60_000; now += 100)
        if (step(peer(false), now).call.length > 0) calls.push(now);
      const gaps = calls.slice(1).map((at, i) => at - (calls[i] ?? 0));
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(CALL_AGAIN_MS);
      expect(Math.max(...gaps)).toBeLessThanOrEqual(2 * CALL_AGAIN_MS + 100);
    }
  });
});

describe('a registry that does not answer', () => {
  test('withdraws nobody, whatever it said last', () => {
    for (let now = START; now < START + 60_000; now += 1_000)
      expect(step(peer(false), now, false)).toEqual(NOTHING);
  });

  test('ends a doubt, which begins anew when it answers', () => {
    step(peer(false), START);
    expect(step(peer(false), START + 1_000, false)).toEqual(NOTHING);
    expect(step(peer(false), START + ANSWER_MS)).toEqual({ ...NOTHING, call: ['a'] });
    expect(step(peer(false), START + 2 * ANSWER_MS).withdraw).toEqual(['a']);
  });

  test('leaves withdrawn who is withdrawn, and calls them', () => {
    withdraw();
    expect(step(peer(false), START + 60_000, false)).toEqual({ ...NOTHING, call: ['a'] });
    expect(reachability.isWithdrawn('a')).toBe(true);
  });
});

describe('a withdrawn peer', () => {
  beforeEach(withdraw);

  test('is restored by a packet, also while the registry is gone', () => {
    const heardAt = START + ANSWER_MS + 1;
    expect(step(peer(false, heardAt), heardAt, false)).toEqual({ ...NOTHING, restore: ['a'] });
    expect(reachability.isWithdrawn('a')).toBe(false);
  });

  test('is restored by being alive', () => {
    expect(step(peer(true), START + ANSWER_MS + 1)).toEqual({ ...NOTHING, restore: ['a'] });
  });

  test('is restored when it is no peer any more', () => {
    expect(reachability.step([], true, START + 20_000)).toEqual({ ...NOTHING, restore: ['a'] });
    expect(reachability.isBusy).toBe(false);
  });
});

test('of whom the registry has said nothing, and who is alive, is not doubted', () => {
  for (const alive of [undefined, true]) expect(step(peer(alive), START)).toEqual(NOTHING);
  expect(reachability.isBusy).toBe(false);
});

test('whatever happens, only who was said not to be alive and was silent is withdrawn, and each in turn with restore', () => {
  const event = fc.record({
    wait: fc.integer({ min: 50, max: 12_000 }),
    alive: fc.constantFrom(true, false, undefined),
    isHeard: fc.boolean(),
    answers: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const subject = new Reachability(() => 0.5);
      let now = START;
      let heardAt = 0;
      let isOut = false;
      for (const { wait, alive, isHeard, answers } of events) {
        now += wait;
        if (isHeard) heardAt = now;
        const { withdraw: out, restore } = subject.step([{ peer: 'a', alive, heardAt }], answers, now);
        if (out.length > 0) {
          expect(isOut).toBe(false);
          expect(alive).toBe(false);
          expect(answers).toBe(true);
          expect(now - heardAt).toBeGreaterThanOrEqual(SILENCE_MS);
        }
        if (restore.length > 0) {
          expect(isOut).toBe(true);
          expect(alive !== false || isHeard).toBe(true);
        }
        isOut = subject.isWithdrawn('a');
        if (alive !== false || isHeard) expect(isOut).toBe(false);
      }
    }),
  );
});
