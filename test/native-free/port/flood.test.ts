// Carol floods bob with handshake messages while alice wants to talk to him. Bob's machine is slow: in the 5 ms of one
// step it does one handshake, or eight cookie replies, or fifty messages that mac1 gives away.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import { HANDSHAKE_QUEUE_LENGTH } from '../../../native-free/noise/constants.ts';
import { CookieJar } from '../../../native-free/noise/cookie.ts';
import { CookieReply, Initiation } from '../../../native-free/wire/message.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { ALICE, BOB, type Host, Lab, seededRandom } from '../device/lab.ts';

const WORK_A_STEP = 50;
const HANDSHAKE = 50;
const COOKIE_REPLY = 6;
const MACS = 1;

/** What can be done within a step, by how dear each message turned out to be. */
const slowly = (host: Host): void => {
  for (let work = 0; work < WORK_A_STEP && host.queue.length > 0; ) {
    const [cheap, cookies] = [
      host.dropped('bad-mac1') + host.dropped('rate-limited'),
      host.dropped('cookie-required'),
    ];
    host.receiveNext();
    if (host.dropped('bad-mac1') + host.dropped('rate-limited') > cheap) work += MACS;
    else if (host.dropped('cookie-required') > cookies) work += COOKIE_REPLY;
    else work += HANDSHAKE;
  }
};

/** The same machine with a port that does not know that it is under load. */
const naively = (host: Host): void => {
  for (let work = 0; work < WORK_A_STEP && host.queue.length > 0; work += HANDSHAKE) {
    const next = host.queue.shift();
    if (next !== undefined) host.tunnel.fromOutside(next.bytes, next.source, host.time);
  }
};

type Attack = 'knows nothing' | 'knows the key' | 'obeys cookies';

class Carol {
  readonly #random = seededRandom(99);
  readonly #bob: Host;
  readonly #lab: Lab;
  readonly #attack: Attack;
  readonly #jar: CookieJar;
  readonly #messages: Initiation[];
  readonly #self: Endpoint = { address: '203.0.113.66', port: 666 };
  #sent = 0;

  constructor(lab: Lab, bob: Host, attack: Attack) {
    this.#lab = lab;
    this.#bob = bob;
    this.#attack = attack;
    this.#jar = new CookieJar(opensslPrimitives, bob.publicKey);
    this.#messages = Array.from({ length: 64 }, (_, i) => {
      const message = Initiation.create(i);
      message.ephemeral.set(this.#random(32));
      message.encryptedStatic.set(this.#random(48));
      if (attack !== 'knows nothing') this.#jar.writeMacs(message.macs, 0);
      return message;
    });
    if (attack === 'obeys cookies') lab.internet.socket(this.#self, ({ bytes }) => this.#takeCookie(bytes));
  }

  send(count: number): void {
    for (let i = 0; i < count; i++) {
      const message = this.#messages[this.#sent++ % this.#messages.length];
      if (message === undefined) return;
      // The last one sent is the one that a cookie reply answers.
      if (this.#attack === 'obeys cookies') this.#jar.writeMacs(message.macs, this.#lab.now);
      this.#lab.inject({
        bytes: message.bytes.slice(),
        source: this.#source,
        destination: this.#bob.endpoint,
      });
    }
  }

  get #source(): Endpoint {
    if (this.#attack === 'obeys cookies') return this.#self;
    const [a, b, c, d, e] = this.#random(5);
    return { address: `11.${a}.${b}.${c}`, port: ((d ?? 0) << 8) | (e ?? 0) | 1 };
  }

  #takeCookie(bytes: Uint8Array): void {
    const reply = CookieReply.parse(bytes);
    if (reply !== undefined) this.#jar.take(reply, this.#lab.now);
  }
}

/** Alice, bob under carol's flood of `rate` messages a step, and how long alice's packet takes; Infinity: too long. */
const flooded = (
  attack: Attack,
  rate: number,
  workOff: (host: Host) => void,
  seed = 1,
  patience = 12_000,
) => {
  const lab = new Lab(seed);
  const alice = lab.host(ALICE);
  const bob = lab.host({ ...BOB, workOff });
  alice.knows(bob);
  bob.knows(alice);
  const carol = new Carol(lab, bob, attack);
  let longest = 0;
  const run = (milliseconds: number, isOver = (): boolean => false): void => {
    for (const end = lab.now + milliseconds; lab.now < end && !isOver(); ) {
      carol.send(rate);
      longest = Math.max(longest, bob.queue.length);
      lab.run(5);
      // What went to addresses that nobody has is not kept.
      lab.wire.splice(0);
    }
  };
  run(1000);
  const begun = lab.now;
  alice.send(bob, 'hello');
  run(patience, () => bob.statusOf(alice).lastHandshake !== undefined);
  const isDone = bob.received().includes('hello');
  return { took: isDone ? lab.now - begun : Number.POSITIVE_INFINITY, longest, lab, alice, bob, run };
};

describe('alice reaches bob', () => {
  test.each<[Attack, number]>([
    ['knows nothing', 45],
    ['knows the key', 7],
    ['obeys cookies', 7],
  ])('at her second try while carol, who %s, sends %i messages a step', (attack, rate) => {
    const { took, bob } = flooded(attack, rate, slowly);
    expect(took).toBeLessThan(6000);
    expect(bob.dropped('bad-initiation')).toBeLessThan(5000);
  });

  test('and would not, if bob looked at all that comes', () => {
    expect(flooded('knows the key', 7, naively).took).toBe(Number.POSITIVE_INFINITY);
  });

  test('whatever carol does below what cookie replies cost, and nothing piles up', () => {
    const attack = fc.constantFrom<Attack>('knows nothing', 'knows the key', 'obeys cookies');
    fc.assert(
      fc.property(attack, fc.integer({ min: 0, max: 7 }), fc.nat(2 ** 20), (who, rate, seed) => {
        const { took, longest, bob, lab } = flooded(who, rate, slowly, seed);
        expect(took).toBeLessThan(Number.POSITIVE_INFINITY);
        expect(longest).toBeLessThanOrEqual(HANDSHAKE_QUEUE_LENGTH);
        // One session, and an initiation of bob's own at most.
        expect(bob.port.indices.size).toBeLessThanOrEqual(2);
        expect(bob.tunnel.device.peerIds).toHaveLength(1);
        lab.run(2000);
        expect(bob.queue).toEqual([]);
        expect(bob.port.isUnderLoad(lab.now)).toBe(false);
      }),
      { numRuns: 6 },
    );
  }, 30_000);
});

test('a queue that overflows drops, and bob is himself again a second after the flood', () => {
  const { longest, lab, alice, bob } = flooded('knows the key', 60, slowly, 1, 2000);
  expect(longest).toBe(HANDSHAKE_QUEUE_LENGTH);
  lab.run(10_000);
  expect(bob.queue).toEqual([]);
  alice.received();
  bob.send(alice, 'I am back');
  lab.run(6000);
  expect(alice.received()).toEqual(['I am back']);
});

test('data of a session passes through the flood untouched', () => {
  const { alice, bob, run } = flooded('knows the key', 7, slowly);
  for (let i = 0; i < 20; i++) {
    alice.send(bob, `${i}`);
    run(15);
    expect(bob.received()).toEqual([`${i}`]);
  }
});
