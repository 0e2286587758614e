import { describe, expect, test } from 'vitest';
import { REKEY_AFTER_MESSAGES, SEND_AFTER_MESSAGES_LIMIT } from '../../../native-free/noise/constants.ts';
import { Transport } from '../../../native-free/wire/message.ts';
import { type Host, isData, type Lab, twoHosts, twoHostsInSession } from './lab.ts';

/** Sends a packet each second. */
const talk = (lab: Lab, from: Host, to: Host, seconds: number): void => {
  for (let i = 0; i < seconds; i++) {
    from.send(to, `${lab.now}`);
    lab.run(1000);
  }
};

/** Both ways, each second, the answer half a second later. */
const converse = (lab: Lab, alice: Host, bob: Host, seconds: number): void => {
  for (let i = 0; i < seconds; i++) {
    alice.send(bob, `${lab.now}`);
    lab.run(500);
    bob.send(alice, `${lab.now}`);
    lab.run(500);
  }
};

describe('a session in use', () => {
  test('is renewed by its initiator 120 s after it began, and by nobody else', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const began = alice.statusOf(bob).keypair?.createdAt ?? 0;
    converse(lab, alice, bob, 125);
    expect(lab.seen(1, bob)).toEqual([]);
    const [rekey, ...more] = lab.seen(1, alice);
    expect(more).toEqual([]);
    expect((rekey?.at ?? 0) - began).toBeGreaterThanOrEqual(120_000);
    expect((rekey?.at ?? 0) - began).toBeLessThanOrEqual(121_200);
  });

  test('is renewed by its initiator also when only the responder sends', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const began = alice.statusOf(bob).keypair?.createdAt ?? 0;
    talk(lab, bob, alice, 150);
    // Alice's passive keepalives count as sending.
    expect(lab.seen(1, bob)).toEqual([]);
    const at = lab.seen(1, alice)[0]?.at ?? 0;
    expect(at - began).toBeGreaterThanOrEqual(120_000);
    expect(at - began).toBeLessThanOrEqual(132_000);
    expect(alice.received().length).toBe(150);
  });

  test('goes on for ever and loses nothing', () => {
    const { lab, alice, bob } = twoHostsInSession();
    converse(lab, alice, bob, 1000);
    expect(alice.received().length).toBe(1000);
    expect(bob.received().length).toBe(1000);
    expect(lab.seen(1).length).toBe(8);
    expect(lab.seen(2).length).toBe(8);
  });

  test('never uses a counter twice under one keypair', () => {
    const { lab, alice, bob } = twoHostsInSession();
    converse(lab, alice, bob, 400);
    const nonces = lab.seen(4).map(({ bytes, source }) => {
      const message = Transport.parse(bytes);
      return [source.address, message?.receiver, message?.counterHigh, message?.counterLow].join();
    });
    expect(nonces.length).toBeGreaterThan(800);
    expect(new Set(nonces).size).toBe(nonces.length);
  });
});

test('an idle session is not renewed, and nothing at all is sent', () => {
  const { lab } = twoHostsInSession();
  lab.run(15_000);
  lab.wire.splice(0);
  lab.run(600_000);
  expect(lab.wire).toEqual([]);
});

test('on receive, the initiator renews once in the last 15 s of a session', () => {
  const { lab, alice, bob } = twoHostsInSession();
  const began = alice.statusOf(bob).keypair?.createdAt ?? 0;
  // Alice only hears: her own keepalives don't get out, so that sending is not what renews.
  lab.run(began + 164_000 - lab.now);
  bob.send(alice, 'at 164 s');
  lab.run(500);
  expect(lab.seen(1, alice)).toEqual([]);
  lab.run(began + 165_500 - lab.now);
  lab.passes = ({ type, source }) => !(type === 1 && source === alice.endpoint);
  for (let i = 0; i < 4; i++) {
    bob.send(alice, 'past 165 s');
    lab.run(1000);
  }
  expect(lab.seen(1, alice).length).toBe(1);
  expect(lab.seen(1, bob)).toEqual([]);
});

describe('a session of 180 s', () => {
  test('is used for sending until then and not after', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const began = bob.statusOf(alice).keypair?.createdAt ?? 0;
    lab.run(began + 179_990 - lab.now);
    lab.wire.splice(0);
    bob.send(alice, 'just in time');
    expect(bob.tunnel.plane.activity(alice.id).dataSentAt).toBe(lab.now);
    lab.run(15);
    bob.send(alice, 'too late');
    lab.run(5);
    expect(lab.seen(4, bob).filter(isData).length).toBe(1);
    expect(lab.seen(1, bob).length).toBe(1);
    lab.run(200);
    expect(alice.received()).toContain('too late');
  });

  test('is not received under any more', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const began = bob.statusOf(alice).keypair?.createdAt ?? 0;
    lab.run(began + 179_990 - lab.now);
    bob.send(alice, 'arrives 20 ms later');
    lab.latency = 20;
    lab.run(50);
    expect(alice.received()).toEqual([]);
    expect(alice.dropped('keypair-expired')).toBe(1);
  });

  test('leaves no keys behind', () => {
    const { lab, alice, bob } = twoHosts();
    alice.tunnel.initiate(bob.publicKey, alice.time);
    lab.run(100);
    const receiver = Transport.parse(lab.seen(4, alice)[0]?.bytes ?? new Uint8Array())?.receiver ?? 0;
    const installed = bob.tunnel.plane.keypair(receiver);
    expect(installed?.receiveKey.some((byte) => byte !== 0)).toBe(true);
    lab.run(181_000);
    expect(bob.tunnel.plane.keypair(receiver)).toBeUndefined();
    expect(installed?.receiveKey).toEqual(new Uint8Array(32));
    expect(installed?.sendKey).toEqual(new Uint8Array(32));
    expect(alice.statusOf(bob).keypair).toBeUndefined();
  });
});

describe('by messages', () => {
  /** Set so far some seconds after the handshake, when another may be begun at once. */
  const countersAt = (counter: number): ReturnType<typeof twoHostsInSession> => {
    const hosts = twoHostsInSession();
    hosts.lab.run(6000);
    const inUse = hosts.bob.tunnel.plane.peer(hosts.alice.id).inUse;
    if (inUse !== undefined) inUse.sendCounter = counter;
    return hosts;
  };

  test('a session near its limit is renewed, by the responder too', () => {
    const { lab, alice, bob } = countersAt(REKEY_AFTER_MESSAGES);
    bob.send(alice, 'one of too many');
    lab.run(500);
    expect(lab.seen(1, bob).length).toBe(1);
    expect(alice.received()).toEqual(['one of too many']);
  });

  test('a session at its limit seals nothing more, and what waits goes out under the next', () => {
    const { lab, alice, bob } = countersAt(SEND_AFTER_MESSAGES_LIMIT);
    bob.send(alice, 'patience');
    expect(bob.tunnel.plane.peer(alice.id).staged.length).toBe(1);
    lab.run(500);
    expect(alice.received()).toEqual(['patience']);
    expect(bob.tunnel.plane.peer(alice.id).inUse?.sendCounter).toBeLessThan(10);
  });
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'both ends rekeying at once under a steady stream each way lose nothing (seed %i)',
  (seed) => {
    const { lab, alice, bob } = twoHostsInSession(seed);
    lab.latency = 40;
    let sent = 0;
    const stream = (milliseconds: number): void => {
      for (let i = 0; i < milliseconds; i += 5) {
        alice.send(bob, `a${sent}`);
        bob.send(alice, `b${sent}`);
        sent++;
        lab.run(5);
      }
    };
    lab.run(6000);
    stream(100);
    // Within one way's latency of each other, in either order.
    const [first, second] = seed % 2 === 0 ? [alice, bob] : [bob, alice];
    first.tunnel.initiate(second.publicKey, first.time);
    stream((seed * 5) % 40);
    second.tunnel.initiate(first.publicKey, second.time);
    stream(400);
    lab.run(200);
    expect(lab.seen(1).length).toBe(2);
    expect(alice.received()).toEqual(Array.from({ length: sent }, (_, i) => `b${i}`));
    expect(bob.received()).toEqual(Array.from({ length: sent }, (_, i) => `a${i}`));
  },
);

test('after both ends rekeyed at once, the next rekey under a steady stream each way loses nothing', () => {
  const { lab, alice, bob } = twoHostsInSession();
  lab.latency = 40;
  let sent = 0;
  const stream = (milliseconds: number): void => {
    for (let i = 0; i < milliseconds; i += 5) {
      alice.send(bob, `a${sent}`);
      bob.send(alice, `b${sent}`);
      sent++;
      lab.run(5);
    }
  };
  const rekey = (host: Host, other: Host): void => host.tunnel.initiate(other.publicKey, host.time);
  lab.run(6000);
  rekey(alice, bob);
  rekey(bob, alice);
  stream(400);
  expect(alice.tunnel.plane.peer(bob.id).inUse?.keypair.isInitiator).toBe(true);
  expect(bob.tunnel.plane.peer(alice.id).inUse?.keypair.isInitiator).toBe(true);
  for (const both of [false, true, false]) {
    lab.run(6000);
    rekey(alice, bob);
    if (both) rekey(bob, alice);
    stream(400);
  }
  lab.run(200);
  expect(alice.received()).toEqual(Array.from({ length: sent }, (_, i) => `b${i}`));
  expect(bob.received()).toEqual(Array.from({ length: sent }, (_, i) => `a${i}`));
});
