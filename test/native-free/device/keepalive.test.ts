import { describe, expect, test } from 'vitest';
import { isData, isKeepalive, twoHosts, twoHostsInSession } from './lab.ts';

/** A session that has come to rest: the last keepalives are over. */
const atRest = (): ReturnType<typeof twoHosts> => {
  const hosts = twoHostsInSession();
  hosts.lab.run(30_000);
  hosts.lab.wire.splice(0);
  return hosts;
};

describe('a passive keepalive', () => {
  test('answers data that got no other answer for 10 s, once', () => {
    const { lab, alice, bob } = atRest();
    const sentAt = lab.now;
    alice.send(bob, 'say nothing');
    lab.run(60_000);
    const answers = lab.seen(4, bob);
    expect(answers.map(isKeepalive)).toEqual([true]);
    expect((answers[0]?.at ?? 0) - sentAt).toBeGreaterThanOrEqual(10_000);
    expect((answers[0]?.at ?? 0) - sentAt).toBeLessThanOrEqual(10_200);
    expect(lab.seen(1)).toEqual([]);
  });

  test('is not answered by a keepalive', () => {
    const { lab, alice, bob } = atRest();
    alice.send(bob, 'say nothing');
    lab.run(90_000);
    expect(lab.wire.map((one) => [one.source, isData(one)])).toEqual([
      [alice.endpoint, true],
      [bob.endpoint, false],
    ]);
  });

  test('counts from the data received, not from what was sent before', () => {
    const { lab, alice, bob } = atRest();
    bob.send(alice, 'first');
    lab.run(9_000);
    alice.send(bob, 'second');
    lab.run(9_000);
    expect(lab.seen(4, bob).filter(isKeepalive)).toEqual([]);
    lab.run(2_000);
    expect(lab.seen(4, bob).filter(isKeepalive).length).toBe(1);
  });

  test('is not sent when there was an answer', () => {
    const { lab, alice, bob } = atRest();
    alice.send(bob, 'ping');
    lab.run(5_000);
    bob.send(alice, 'pong');
    lab.run(9_000);
    expect(lab.wire.filter(isKeepalive)).toEqual([]);
    lab.run(3_000);
    // The pong, for its part, got no answer.
    expect(lab.wire.filter(isKeepalive).map(({ source }) => source)).toEqual([alice.endpoint]);
  });

  test('comes every 10 s against a stream one way', () => {
    const { lab, alice, bob } = atRest();
    for (let i = 0; i < 40; i++) {
      alice.send(bob, 'stream');
      lab.run(1000);
    }
    const at = lab.seen(4, bob).map((one) => one.at);
    expect(at.length).toBeGreaterThanOrEqual(3);
    expect(at.length).toBeLessThanOrEqual(4);
    expect(lab.seen(1)).toEqual([]);
  });
});

describe('a peer that falls silent', () => {
  test('gets a new handshake 15 s and up to 333 ms after the first data it left unanswered', () => {
    const { lab, alice, bob } = atRest();
    bob.isUp = false;
    const firstAt = lab.now;
    for (let i = 0; i < 16; i++) {
      alice.send(bob, 'anyone?');
      lab.run(1000);
    }
    const [initiation] = lab.seen(1, alice);
    expect((initiation?.at ?? 0) - firstAt).toBeGreaterThanOrEqual(15_000);
    expect((initiation?.at ?? 0) - firstAt).toBeLessThanOrEqual(15_333 + 200);
  });

  test('gets none when it answers in time, by whatever', () => {
    const { lab, alice, bob } = atRest();
    alice.send(bob, 'one way');
    lab.run(60_000);
    expect(lab.seen(1)).toEqual([]);
  });

  test('that has restarted without a word is talked to again within 16 s', () => {
    const { lab, alice, bob } = atRest();
    lab.crash(bob);
    const again = lab.host({ endpoint: bob.endpoint, inside: bob.inside, privateKey: bob.privateKey });
    again.knows(alice, { endpoints: [] });
    for (let i = 0; i <= 16; i++) {
      alice.send(again, `${i}`);
      lab.run(1000);
    }
    expect(again.received()).toContain('16');
  });
});

describe('a persistent keepalive', () => {
  test('is sent at each interval of silence, and opens the session by itself', () => {
    const { lab, alice, bob } = twoHosts();
    alice.knows(bob, { persistentKeepalive: 25_000 });
    lab.run(100 + 110_000);
    expect(lab.seen(1, alice).length).toBe(1);
    const keepalives = lab.seen(4, alice);
    expect(keepalives.every(isKeepalive)).toBe(true);
    // The one that confirms the session, then one each 25 s.
    expect(keepalives.length).toBe(5);
    for (const [i, { at }] of keepalives.slice(1).entries())
      expect(at - (keepalives[i]?.at ?? 0)).toBeLessThanOrEqual(25_200);
    expect(lab.seen(4, bob)).toEqual([]);
  });

  test('is not sent while there is traffic, in either direction', () => {
    const { lab, alice, bob } = atRest();
    alice.knows(bob, { persistentKeepalive: 25_000 });
    lab.run(200);
    lab.wire.splice(0);
    for (let i = 0; i < 8; i++) {
      bob.send(alice, 'busy');
      lab.run(5_000);
      alice.send(bob, 'busy too');
      lab.run(5_000);
    }
    expect(lab.wire.filter(isKeepalive)).toEqual([]);
  });

  test('keeps a session alive for ever with one handshake each two minutes', () => {
    const { lab, alice, bob } = twoHosts();
    alice.knows(bob, { persistentKeepalive: 25_000 });
    lab.run(1_000_000);
    bob.send(alice, 'through the mapping');
    lab.run(100);
    expect(alice.received()).toEqual(['through the mapping']);
    expect(lab.seen(1, bob)).toEqual([]);
    expect(lab.seen(1, alice).length).toBeGreaterThanOrEqual(7);
    expect(lab.seen(1, alice).length).toBeLessThanOrEqual(9);
  });

  test('never stops trying a peer that is gone, and finds it when it is back', () => {
    const { lab, alice, bob } = twoHosts();
    alice.knows(bob, { persistentKeepalive: 25_000 });
    bob.isUp = false;
    lab.run(600_000);
    bob.isUp = true;
    lab.run(31_000);
    expect(bob.statusOf(alice).keypair).toBeDefined();
  });

  test('that is switched off is off', () => {
    const { lab, alice, bob } = twoHosts();
    alice.knows(bob, { persistentKeepalive: 1_000 });
    lab.run(3_000);
    alice.knows(bob, { persistentKeepalive: 0 });
    lab.wire.splice(0);
    lab.run(60_000);
    expect(lab.wire).toEqual([]);
  });
});
