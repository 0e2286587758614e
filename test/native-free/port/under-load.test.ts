import { beforeEach, describe, expect, test } from 'vitest';
import type { Action, Endpoint } from '../../../native-free/device/data-plane.ts';
import { Device } from '../../../native-free/device/device.ts';
import { UNDER_LOAD_QUEUE_LENGTH } from '../../../native-free/noise/constants.ts';
import { CookieJar } from '../../../native-free/noise/cookie.ts';
import { Port } from '../../../native-free/port/port.ts';
import {
  COOKIE_REPLY_TYPE,
  INITIATION_TYPE,
  messageType,
  RESPONSE_TYPE,
  Response,
} from '../../../native-free/wire/message.ts';
import { opensslPrimitives as primitives } from '../../../src/noise/openssl-primitives.ts';
import { seededRandom } from '../device/lab.ts';

const NOON = Date.UTC(2030, 0, 1, 12);
const HERE = { address: '192.0.2.1', port: 51820 };
const THERE = { address: '198.51.100.2', port: 51820 };
const MANY = UNDER_LOAD_QUEUE_LENGTH;

const random = seededRandom(42);

const deviceOn = (port: Port): Device => {
  const device = new Device({ privateKey: random(32) }, { primitives, random, indices: port });
  port.add(device);
  return device;
};

const introduce = (a: Device, b: Device): void => {
  a.setPeer({ publicKey: b.publicKey, allowedIps: [], endpoints: [THERE] });
  b.setPeer({ publicKey: a.publicKey, allowedIps: [], endpoints: [HERE] });
};

const datagramsIn = (actions: readonly Action[] = []): Uint8Array[] =>
  actions.flatMap((action) => (action.kind === 'send' ? [action.datagram] : []));

const datagramIn = (actions: readonly Action[] | undefined): Uint8Array => {
  const [datagram] = datagramsIn(actions);
  if (datagram === undefined) throw new Error('nothing was sent');
  return datagram;
};

let here: Port;
let there: Port;
let alice: Device;
let bob: Device;
beforeEach(() => {
  here = new Port({ random });
  there = new Port({ random });
  alice = deviceOn(here);
  bob = deviceOn(there);
  introduce(alice, bob);
});

/** Alice's initiation at `now`. */
const initiation = (now: number): Uint8Array =>
  datagramIn([...alice.tick(now, NOON + now, () => undefined), ...alice.initiate(bob.id, now, NOON + now)]);

/** What bob answers: the type of his message, if any. */
const atBob = (datagram: Uint8Array, now: number, waiting: number, source: Endpoint = HERE) => {
  const actions = there.receive(datagram, source, now, NOON + now, waiting)?.actions;
  const [answer] = datagramsIn(actions);
  return { actions, answer, type: answer && messageType(answer) };
};

/** Alice takes the cookie of bob, who is under load. */
const giveCookie = (now: number): void => {
  const { answer = new Uint8Array() } = atBob(initiation(now), now, MANY);
  expect(here.receive(answer, THERE, now, NOON + now)?.actions).toEqual([]);
};

describe('a port is under load', () => {
  test('from when an eighth of its queue is full until a second after', () => {
    const first = initiation(0);
    expect(atBob(first, 0, MANY - 1).type).toBe(RESPONSE_TYPE);
    expect(there.isUnderLoad(0)).toBe(false);
    const second = initiation(6000);
    expect(atBob(second, 6000, MANY).type).toBe(COOKIE_REPLY_TYPE);
    expect(atBob(second, 6999, 0).type).toBe(COOKIE_REPLY_TYPE);
    expect(there.isUnderLoad(6999)).toBe(true);
    expect(atBob(second, 7000, 0).type).toBe(RESPONSE_TYPE);
  });

  test('for all its networks', () => {
    const green = { here: deviceOn(here), there: deviceOn(there) };
    introduce(green.here, green.there);
    atBob(initiation(0), 0, MANY);
    const actions = green.here.initiate(green.there.id, 0, NOON);
    expect(atBob(datagramIn(actions), 0, 0).type).toBe(COOKIE_REPLY_TYPE);
  });
});

describe('under load', () => {
  test('an initiation with a bad mac1 gets nothing at all', () => {
    const forged = initiation(0);
    forged[120] = (forged[120] ?? 0) ^ 1;
    expect(atBob(forged, 0, MANY).actions).toBeUndefined();
    expect(there.drops.entries()).toEqual([['bad-mac1', 1]]);
  });

  test('an initiation without a cookie gets one, and it is less than half as long as what it answers', () => {
    const sent = initiation(0);
    const { answer, actions } = atBob(sent, 0, MANY);
    expect(actions).toHaveLength(1);
    expect(answer?.length).toBeLessThan(sent.length / 2);
    expect(there.drops.of('cookie-required')).toBe(1);
    expect(bob.status(alice.id)).toMatchObject({ lastHandshake: undefined, isHandshaking: false });
  });

  test('the next initiation carries the cookie and is answered', () => {
    giveCookie(0);
    expect(atBob(initiation(6000), 6000, MANY).type).toBe(RESPONSE_TYPE);
  });

  test('a cookie is bound to the source port', () => {
    giveCookie(0);
    const second = initiation(6000);
    expect(atBob(second, 6000, MANY, { ...HERE, port: 51821 }).type).toBe(COOKIE_REPLY_TYPE);
    expect(atBob(second, 6000, MANY, { ...HERE, address: '192.0.2.2' }).type).toBe(COOKIE_REPLY_TYPE);
    expect(atBob(second, 6000, MANY).type).toBe(RESPONSE_TYPE);
  });

  test('a cookie does not hurry the retry, which comes after 5 s as ever', () => {
    giveCookie(0);
    expect(alice.tick(4999, NOON, () => undefined)).toEqual([]);
    expect(datagramsIn(alice.tick(5334, NOON, () => undefined)).map(messageType)).toEqual([INITIATION_TYPE]);
  });

  describe('a response', () => {
    /** Anyone who knows alice's public key and has seen her initiation gets so far. */
    const forge = (response: Uint8Array): Uint8Array => {
      const forged = Response.parse(response.slice());
      if (forged === undefined) throw new Error('not a response');
      forged.encryptedNothing.fill(0);
      new CookieJar(primitives, alice.publicKey).writeMacs(forged.macs, 0);
      return forged.bytes;
    };
    const kindsAtAlice = (response: Uint8Array, now: number) =>
      here.receive(response, THERE, now, NOON + now, MANY)?.actions.map(({ kind }) => kind);

    test('with a bad mac1 gets nothing, under load or not', () => {
      const response = datagramIn(atBob(initiation(0), 0, 0).actions);
      response[60] = (response[60] ?? 0) ^ 1;
      expect(here.receive(response, THERE, 0, NOON, MANY)).toBeUndefined();
      expect(here.receive(response, THERE, 5000, NOON)).toBeUndefined();
      expect(here.drops.entries()).toEqual([['bad-mac1', 2]]);
    });

    test('that is the first to an initiation of ours needs no cookie', () => {
      const response = datagramIn(atBob(initiation(0), 0, 0).actions);
      expect(kindsAtAlice(response, 0)).toContain('use-keypair');
      // Again, it is not awaited any more.
      expect(kindsAtAlice(response, 0)).toEqual(['send']);
      expect(here.drops.of('cookie-required')).toBe(1);
    });

    test('after a forged one needs a cookie, and the responder takes it', () => {
      const response = datagramIn(atBob(initiation(0), 0, 0).actions);
      expect(kindsAtAlice(forge(response), 0)).toEqual([]);
      expect(alice.drops.of('bad-response')).toBe(1);
      for (let i = 0; i < 100; i++) expect(kindsAtAlice(forge(response), 0)).toEqual(['send']);
      expect(alice.drops.of('bad-response')).toBe(1);
      const { actions } = here.receive(response, THERE, 0, NOON, MANY) ?? {};
      there.receive(datagramIn(actions), HERE, 0, NOON);
      expect(bob.drops.entries()).toEqual([]);
      // Alice's next initiation is answered with bob's cookie, so that forgeries don't help any more.
      const second = datagramIn(atBob(initiation(6000), 6000, 0).actions);
      expect(kindsAtAlice(forge(second), 6000)).toEqual([]);
      expect(kindsAtAlice(second, 6000)).toContain('use-keypair');
    });
  });

  test('an address is let through five times at once and then twenty times a second', () => {
    giveCookie(0);
    const sent = initiation(6000);
    const passed = Array.from({ length: 100 }, (_, i) => atBob(sent, 6000 + i * 10, MANY)).filter(
      ({ actions }) => actions !== undefined,
    );
    expect(passed.length).toBe(100);
    expect(there.drops.of('rate-limited')).toBe(100 - 5 - 19);
    expect(bob.drops.of('replayed-initiation')).toBe(5 + 19 - 1);
  });
});

test('one node with many networks does not trip its own limit', () => {
  const networks = Array.from({ length: 30 }, () => {
    const pair = { here: deviceOn(here), there: deviceOn(there) };
    introduce(pair.here, pair.there);
    return pair;
  });
  const initiations = (now: number): Uint8Array[] =>
    networks.flatMap(({ here: device }) => datagramsIn(device.tick(now, NOON + now, () => undefined)));
  for (const { here: device, there: responder } of networks) {
    const first = datagramIn(device.initiate(responder.id, 0, NOON));
    here.receive(atBob(first, 0, MANY).answer ?? new Uint8Array(), THERE, 0, NOON);
  }
  const second = initiations(5400);
  expect(second).toHaveLength(30);
  for (const one of second) expect(atBob(one, 5400, MANY).type).toBe(RESPONSE_TYPE);
});

test('a cookie reply moves no endpoint and counts as no sign of life', () => {
  const before = alice.status(bob.id);
  const sent = initiation(0);
  const { answer = new Uint8Array() } = atBob(sent, 0, MANY);
  const mallory = { address: '203.0.113.66', port: 666 };
  expect(here.receive(answer, mallory, 0, NOON)?.actions).toEqual([]);
  expect(alice.status(bob.id)).toEqual({ ...before, isHandshaking: true });
  expect(alice.drops.entries()).toEqual([]);
  // Once more, it answers nothing.
  here.receive(answer, mallory, 0, NOON);
  expect(alice.drops.entries()).toEqual([['bad-cookie', 1]]);
});

test('cookie replies are taken under load, too', () => {
  const { answer = new Uint8Array() } = atBob(initiation(0), 0, MANY);
  expect(here.receive(answer, THERE, 0, NOON, 1000)?.actions).toEqual([]);
  expect(atBob(initiation(6000), 6000, MANY).type).toBe(RESPONSE_TYPE);
});
