import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { REPLAY_WINDOW, ReplayWindow } from '../../../native-free/noise/replay.ts';

const REJECT_AFTER_MESSAGES = 2n ** 64n - 2n ** 13n - 1n;
const WINDOW = BigInt(REPLAY_WINDOW);

const accept = (window: ReplayWindow, counter: bigint): boolean =>
  window.accept(Number(counter >> 32n), Number(counter & 0xffffffffn));

/** The obvious way: remember all of them. */
class SlowReplayWindow {
  readonly #seen = new Set<bigint>();
  #greatest = 0n;

  accept(counter: bigint): boolean {
    if (counter >= REJECT_AFTER_MESSAGES || this.#seen.has(counter)) return false;
    if (counter + WINDOW < this.#greatest) return false;
    this.#seen.add(counter);
    if (counter > this.#greatest) this.#greatest = counter;
    return true;
  }
}

describe("the kernel's truth table (drivers/net/wireguard/selftest/counter.c)", () => {
  const LIMIT = WINDOW + 1n;
  const truth: [bigint, boolean][] = [
    [0n, true],
    [1n, true],
    [1n, false],
    [9n, true],
    [8n, true],
    [7n, true],
    [7n, false],
    [LIMIT, true],
    [LIMIT - 1n, true],
    [LIMIT - 1n, false],
    [LIMIT - 2n, true],
    [2n, true],
    [2n, false],
    [LIMIT + 16n, true],
    [3n, false],
    [LIMIT + 16n, false],
    [LIMIT * 4n, true],
    [LIMIT * 4n - (LIMIT - 1n), true],
    [10n, false],
    [LIMIT * 4n - LIMIT, false],
    [LIMIT * 4n - (LIMIT + 1n), false],
    [LIMIT * 4n - (LIMIT - 2n), true],
    [LIMIT * 4n + 1n - LIMIT, false],
    [0n, false],
    [REJECT_AFTER_MESSAGES, false],
    [REJECT_AFTER_MESSAGES - 1n, true],
    [REJECT_AFTER_MESSAGES, false],
    [REJECT_AFTER_MESSAGES - 1n, false],
    [REJECT_AFTER_MESSAGES - 2n, true],
    [REJECT_AFTER_MESSAGES + 1n, false],
    [REJECT_AFTER_MESSAGES + 2n, false],
    [REJECT_AFTER_MESSAGES - 2n, false],
    [REJECT_AFTER_MESSAGES - 3n, true],
    [0n, false],
  ];

  test('jumps, duplicates, edges and the end of the counter', () => {
    const window = new ReplayWindow();
    expect(truth.map(([counter]) => [counter, accept(window, counter)])).toEqual(truth);
  });

  const up = (from: bigint, to: bigint): bigint[] =>
    Array.from({ length: Number(to - from) + 1 }, (_, i) => from + BigInt(i));
  const down = (from: bigint, to: bigint): bigint[] => up(to, from).reverse();

  test.each<[string, bigint[], [bigint, boolean][]]>([
    [
      'up from 1, then 0',
      up(1n, WINDOW),
      [
        [0n, true],
        [0n, false],
      ],
    ],
    [
      'up from 2, then 1 and 0',
      up(2n, WINDOW + 1n),
      [
        [1n, true],
        [0n, false],
      ],
    ],
    ['down to 0', down(WINDOW, 0n), []],
    ['down to 1 from one further, then 0', down(WINDOW + 1n, 1n), [[0n, false]]],
    [
      'down to 1, then one past, then 0',
      down(WINDOW, 1n),
      [
        [WINDOW + 1n, true],
        [0n, false],
      ],
    ],
    [
      'down to 1, then 0, then one past',
      down(WINDOW, 1n),
      [
        [0n, true],
        [WINDOW + 1n, true],
      ],
    ],
  ])('a whole window %s', (_, fresh, then) => {
    const window = new ReplayWindow();
    expect(fresh.filter((counter) => !accept(window, counter))).toEqual([]);
    expect(then.map(([counter]) => [counter, accept(window, counter)])).toEqual(then);
  });
});

test('the ring decides like a set of all counters ever seen', () => {
  const near = fc.record({ kind: fc.constant('near'), offset: fc.integer({ min: -9000, max: 400 }) });
  const far = fc.record({ kind: fc.constant('far'), offset: fc.bigInt(0n, 2n ** 64n - 1n) });
  const jump = fc.record({ kind: fc.constant('jump'), offset: fc.integer({ min: 0, max: 20000 }) });
  const step = fc.oneof(
    { weight: 20, arbitrary: near },
    { weight: 3, arbitrary: jump },
    { weight: 1, arbitrary: far },
  );
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.array(step, { maxLength: 300 }), (start, steps) => {
      const window = new ReplayWindow();
      const slow = new SlowReplayWindow();
      let at = start;
      for (const { kind, offset } of steps) {
        const counter = BigInt.asUintN(64, kind === 'far' ? BigInt(offset) : at + BigInt(offset));
        expect(accept(window, counter)).toBe(slow.accept(counter));
        if (kind !== 'near' || offset > 0) at = counter;
      }
    }),
    { numRuns: 300 },
  );
});
