import { describe, expect, test } from 'vitest';
import { CookieChecker, CookieJar } from '../../../native-free/noise/cookie.ts';
import { noblePrimitives } from '../../../native-free/noise/noble-primitives.ts';
import type { Primitives } from '../../../native-free/noise/primitives.ts';
import { type CookieReply, Initiation } from '../../../native-free/wire/message.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { seededRandom } from '../device/lab.ts';

const NOTHING = new Uint8Array(16);
const SOURCE = new TextEncoder().encode('192.0.2.1 51820');
const ELSEWHERE = new TextEncoder().encode('192.0.2.1 51821');

const setUp = (primitives = opensslPrimitives) => {
  const random = seededRandom(7);
  const publicKey = random(32);
  const jar = new CookieJar(primitives, publicKey);
  const checker = new CookieChecker(primitives, random, publicKey);
  /** A message of the jar's owner. */
  const message = (now: number): Initiation => {
    const initiation = Initiation.create(5);
    initiation.ephemeral.set(random(32));
    jar.writeMacs(initiation.macs, now);
    return initiation;
  };
  const reply = (to: Initiation, now: number, source = SOURCE): CookieReply =>
    checker.createReply(to.sender, to.macs, source, now);
  const holds = (one: Initiation, now: number, source = SOURCE): boolean =>
    checker.verifyMac2(one.macs, source, now);
  return { random, publicKey, jar, checker, message, reply, holds };
};

/** Changes one bit. */
const flip = (bytes: Uint8Array, bit: number): void => {
  bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
};

test('the first message has a mac1 and no mac2; after a cookie reply the next has both', () => {
  const { jar, checker, message, reply, holds } = setUp();
  const first = message(0);
  expect(checker.verifyMac1(first.macs)).toBe(true);
  expect(first.macs.mac2).toEqual(NOTHING);
  expect(holds(first, 0)).toBe(false);
  const answer = reply(first, 0);
  expect(answer.receiver).toBe(5);
  expect(jar.take(answer, 10)).toBe(true);
  const second = message(20);
  expect(checker.verifyMac1(second.macs)).toBe(true);
  expect(holds(second, 20)).toBe(true);
});

test('a mac of zeros never counts, whether there was a secret or not', () => {
  const { message, reply, holds } = setUp();
  const first = message(0);
  expect(holds(first, 0)).toBe(false);
  reply(first, 0);
  expect(holds(first, 0)).toBe(false);
});

test('mac1 and mac2 cover all that stands before them', () => {
  const { jar, checker, message, reply, holds } = setUp();
  jar.take(reply(message(0), 0), 0);
  const { bytes } = message(0);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Initiation.parse(bytes.slice());
    if (changed === undefined) throw new Error('not an initiation');
    flip(changed.bytes, bit);
    expect(checker.verifyMac1(changed.macs) && holds(changed, 0)).toBe(false);
  }
});

describe('a cookie', () => {
  test('is bound to the source port and to the address', () => {
    const { jar, message, reply, holds } = setUp();
    jar.take(reply(message(0), 0), 0);
    const second = message(0);
    expect(holds(second, 0, SOURCE)).toBe(true);
    expect(holds(second, 0, ELSEWHERE)).toBe(false);
    expect(holds(second, 0, new TextEncoder().encode('192.0.2.2 51820'))).toBe(false);
  });

  test('is used for 120 s', () => {
    const { jar, message, reply } = setUp();
    jar.take(reply(message(0), 0), 1000);
    expect(message(120_999).macs.mac2).not.toEqual(NOTHING);
    expect(message(121_000).macs.mac2).toEqual(NOTHING);
    expect(message(121_001).macs.mac2).toEqual(NOTHING);
  });

  test('is worth nothing once its secret is 120 s old, and the next one is of another secret', () => {
    const { jar, message, reply, holds } = setUp();
    jar.take(reply(message(0), 0), 0);
    jar.take(reply(message(60_000), 60_000), 60_000);
    expect(holds(message(119_999), 119_999)).toBe(true);
    const late = message(120_000);
    expect(late.macs.mac2).not.toEqual(NOTHING);
    expect(holds(late, 120_000)).toBe(false);
    const answer = reply(late, 120_000);
    expect(holds(late, 120_000)).toBe(false);
    expect(jar.take(answer, 120_000)).toBe(true);
    expect(holds(message(120_000), 120_000)).toBe(true);
  });

  test('of one device is worth nothing to another', () => {
    const { random, publicKey, jar, message, reply } = setUp();
    jar.take(reply(message(0), 0), 0);
    const other = new CookieChecker(opensslPrimitives, random, publicKey);
    other.createReply(1, message(0).macs, SOURCE, 0);
    expect(other.verifyMac2(message(0).macs, SOURCE, 0)).toBe(false);
  });
});

test('the secret of cookies is overwritten with the next one, and when it is wiped', () => {
  const keys: { wiped: boolean }[] = [];
  const primitives: Primitives = {
    ...opensslPrimitives,
    macKey(key) {
      const made = opensslPrimitives.macKey(key);
      const seen = { wiped: false };
      keys.push(seen);
      return {
        mac: (data) => made.mac(data),
        verify: (...of) => made.verify(...of),
        wipe: () => {
          seen.wiped = true;
        },
      };
    },
  };
  const { checker, message, reply } = setUp(primitives);
  // The first is that of mac1, which is no secret.
  reply(message(0), 0);
  expect(keys.map(({ wiped }) => wiped)).toEqual([false, false]);
  reply(message(120_000), 120_000);
  expect(keys.map(({ wiped }) => wiped)).toEqual([false, true, false]);
  checker.wipe();
  expect(keys.map(({ wiped }) => wiped)).toEqual([false, true, true]);
});

describe('a cookie reply', () => {
  test('is taken only as the answer to the last message, and once', () => {
    const { jar, message, reply } = setUp();
    const first = message(0);
    const second = message(0);
    expect(jar.take(reply(first, 0), 0)).toBe(false);
    const answer = reply(second, 0);
    expect(jar.take(answer, 0)).toBe(true);
    expect(jar.take(answer, 0)).toBe(false);
  });

  test('before any message is not taken', () => {
    const { jar, checker } = setUp();
    expect(jar.take(checker.createReply(5, Initiation.create(5).macs, SOURCE, 0), 0)).toBe(false);
  });

  test('with any bit of nonce or cookie changed is not taken, and takes nothing away', () => {
    const { jar, message, reply } = setUp();
    const answer = reply(message(0), 0);
    for (let bit = 8 * 8; bit < answer.bytes.length * 8; bit++) {
      flip(answer.bytes, bit);
      expect(jar.take(answer, 0)).toBe(false);
      flip(answer.bytes, bit);
    }
    expect(jar.take(answer, 0)).toBe(true);
  });

  test('never repeats a nonce', () => {
    const { message, reply } = setUp();
    const first = message(0);
    const nonces = Array.from({ length: 300 }, () => reply(first, 0).nonce.join());
    expect(new Set(nonces).size).toBe(300);
  });
});

test('both implementations of the primitives make the same macs and replies', () => {
  const made = [opensslPrimitives, noblePrimitives].map((primitives) => {
    const { jar, message, reply } = setUp(primitives);
    const first = message(0);
    const answer = reply(first, 0);
    jar.take(answer, 0);
    return [first.bytes, answer.bytes, message(0).bytes];
  });
  expect(made[0]).toEqual(made[1]);
});
