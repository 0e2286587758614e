import { describe, expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { noblePrimitives } from '../../../native-free/noise/noble-primitives.ts';
import { ALICE, BOB, isData, isKeepalive, Lab, twoHosts, twoHostsInSession } from './lab.ts';

describe('a first packet', () => {
  test('waits for the handshake and then arrives', () => {
    const { lab, alice, bob } = twoHosts();
    alice.send(bob, 'one');
    alice.send(bob, 'two');
    lab.run(100);
    expect(bob.received()).toEqual(['one', 'two']);
    expect(lab.seen(1).length).toBe(1);
    expect(lab.seen(2).length).toBe(1);
  });

  test('is answered under the same session, which the responder uses only after it heard the initiator', () => {
    const { lab, alice, bob } = twoHosts();
    alice.tunnel.initiate(bob.publicKey, alice.time);
    lab.passes = ({ type }) => type !== 4;
    lab.run(1000);
    expect(alice.statusOf(bob).keypair?.isInitiator).toBe(true);
    expect(bob.statusOf(alice).keypair).toBeUndefined();
    bob.send(alice, 'too early');
    lab.run(100);
    expect(lab.seen(4, bob)).toEqual([]);

    lab.passes = () => true;
    alice.send(bob, 'hello');
    lab.run(100);
    expect(bob.statusOf(alice).keypair?.isInitiator).toBe(false);
    expect([bob.received(), alice.received()]).toEqual([['hello'], ['too early']]);
    lab.run(10_000);
    expect(lab.seen(1).length).toBe(1);
  });

  test('of who has lost its session is answered at once under the new one', () => {
    const lab = new Lab();
    const alice = lab.host(ALICE);
    const bob = lab.host({ ...BOB, answers: alice.inside });
    alice.knows(bob);
    bob.knows(alice);
    alice.send(bob, 'one');
    lab.run(100);
    expect(alice.received()).toEqual(['answer to one']);
    alice.tunnel.removePeer(bob.publicKey, alice.time);
    alice.knows(bob);
    lab.run(6000);
    alice.send(bob, 'two');
    lab.run(100);
    expect(alice.received()).toEqual(['answer to two']);
    expect(alice.dropped('unknown-index')).toBe(0);
  });

  test('goes over IPv6 inside and outside', () => {
    const lab = new Lab();
    const alice = lab.host({ endpoint: { address: '2001:db8::1', port: 1 }, inside: 'fd00::1' });
    const bob = lab.host({ endpoint: { address: '2001:db8::2', port: 2 }, inside: 'fd00::2' });
    alice.knows(bob);
    bob.knows(alice);
    alice.send(bob, 'hello');
    lab.run(100);
    expect(bob.received()).toEqual(['hello']);
  });

  test('with nothing to send, the initiator confirms the session by a keepalive', () => {
    const { lab, alice, bob } = twoHosts();
    alice.tunnel.initiate(bob.publicKey, alice.time);
    lab.run(100);
    expect(lab.wire.map((one) => [one.type, isKeepalive(one)])).toEqual([
      [1, false],
      [2, false],
      [4, true],
    ]);
    expect(bob.statusOf(alice).keypair).toBeDefined();
  });

  test('is understood whichever implementation of the primitives each end uses', () => {
    const lab = new Lab();
    const alice = lab.host({ ...ALICE, primitives: noblePrimitives });
    const bob = lab.host(BOB);
    alice.knows(bob);
    bob.knows(alice);
    bob.send(alice, 'to noble');
    lab.run(100);
    alice.send(bob, 'to OpenSSL');
    lab.run(100);
    expect([alice.received(), bob.received()]).toEqual([['to noble'], ['to OpenSSL']]);
  });
});

describe('both ends initiating at once', () => {
  test('end in one session each way, at once, and nothing is lost', () => {
    const { lab, alice, bob } = twoHosts();
    alice.send(bob, 'from alice');
    bob.send(alice, 'from bob');
    lab.run(100);
    expect([alice.received(), bob.received()]).toEqual([['from bob'], ['from alice']]);
    lab.wire.splice(0);
    for (let i = 0; i < 100; i++) {
      alice.send(bob, `a${i}`);
      bob.send(alice, `b${i}`);
      lab.run(1000);
    }
    expect(alice.received().length).toBe(100);
    expect(bob.received().length).toBe(100);
    expect(lab.seen(1)).toEqual([]);
  });

  test.each([1, 2, 3, 4, 5])('also when a first message each way is lost (seed %i)', (seed) => {
    const { lab, alice, bob } = twoHosts(seed);
    alice.send(bob, 'from alice');
    bob.send(alice, 'from bob');
    lab.passes = () => false;
    lab.run(100);
    lab.passes = () => true;
    lab.run(6000);
    expect([alice.received(), bob.received()]).toEqual([['from bob'], ['from alice']]);
  });
});

test("an initiation without an answer is not repeated once the other end's has made a session", () => {
  const { lab, alice, bob } = twoHosts();
  lab.passes = ({ type, source }) => !(type === 1 && source === alice.endpoint);
  alice.send(bob, 'from alice');
  lab.run(1000);
  bob.send(alice, 'from bob');
  lab.run(30_000);
  expect([alice.received(), bob.received()]).toEqual([['from bob'], ['from alice']]);
  expect(lab.seen(1, alice).length).toBe(1);
  expect(alice.statusOf(bob).isHandshaking).toBe(false);
});

describe('a handshake message that is lost', () => {
  test('is sent again after 5 s and up to 333 ms, with a greater timestamp and other keys', () => {
    const { lab, alice, bob } = twoHosts();
    lab.passes = ({ type }) => type !== 2;
    alice.send(bob, 'patience');
    lab.run(30_000);
    const initiations = lab.seen(1, alice);
    expect(initiations.length).toBe(6);
    for (const [i, { at }] of initiations.slice(1).entries()) {
      const gap = at - (initiations[i]?.at ?? 0);
      expect(gap).toBeGreaterThanOrEqual(5000);
      expect(gap).toBeLessThanOrEqual(5333 + 100);
    }
    expect(new Set(initiations.map(({ bytes }) => bytes.subarray(8, 40).join())).size).toBe(6);
    expect(bob.dropped('replayed-initiation')).toBe(0);
    lab.passes = () => true;
    lab.run(6000);
    expect(bob.received()).toEqual(['patience']);
  });

  test('is given up after 90 s, and what waited is dropped', () => {
    const { lab, alice, bob } = twoHosts();
    lab.crash(bob);
    alice.send(bob, 'anyone?');
    lab.run(89_000);
    expect(alice.dropped('handshake-given-up')).toBe(0);
    lab.run(7_000);
    expect(alice.dropped('handshake-given-up')).toBe(1);
    const attempts = lab.seen(1, alice).length;
    expect(attempts).toBeGreaterThanOrEqual(17);
    expect(attempts).toBeLessThanOrEqual(18);
    lab.run(300_000);
    expect(lab.seen(1, alice).length).toBe(attempts);
    expect(alice.statusOf(bob).isHandshaking).toBe(false);
  });

  test('new packets prolong the attempt without hurrying it', () => {
    const { lab, alice, bob } = twoHosts();
    lab.crash(bob);
    for (let second = 0; second < 200; second++) {
      alice.send(bob, `${second}`);
      lab.run(1000);
    }
    const initiations = lab.seen(1, alice);
    expect(initiations.length).toBeGreaterThanOrEqual(37);
    expect(initiations.length).toBeLessThanOrEqual(40);
    expect(alice.dropped('staged-overflow')).toBe(200 - 128);
  });
});

test('a response that takes two seconds is as good as any', () => {
  const { lab, alice, bob } = twoHosts();
  lab.latency = 1000;
  alice.send(bob, 'far away');
  lab.run(4000);
  expect(bob.received()).toEqual(['far away']);
  expect(lab.seen(1).length).toBe(1);
});

describe('a preshared key', () => {
  const key = new Uint8Array(32).fill(7);
  const other = new Uint8Array(32).fill(8);

  test('that both ends have makes no difference to anyone', () => {
    const { lab, alice, bob } = twoHosts();
    alice.knows(bob, { presharedKey: key });
    bob.knows(alice, { presharedKey: key });
    alice.send(bob, 'secret');
    lab.run(100);
    expect(bob.received()).toEqual(['secret']);
  });

  test.each([
    ['another one', other],
    ['none', undefined],
  ])('against %s makes no session', (_, bobs) => {
    const { lab, alice, bob } = twoHosts();
    alice.knows(bob, { presharedKey: key });
    bob.knows(alice, { presharedKey: bobs });
    alice.send(bob, 'secret');
    lab.run(20_000);
    expect(bob.received()).toEqual([]);
    expect(alice.dropped('bad-response')).toBeGreaterThanOrEqual(3);
    expect(alice.statusOf(bob).keypair).toBeUndefined();
  });

  test('that is changed applies to the next handshake of a known peer', () => {
    const { lab, alice, bob } = twoHostsInSession();
    bob.knows(alice, { presharedKey: key });
    lab.run(5000);
    alice.tunnel.initiate(bob.publicKey, alice.time);
    lab.run(1000);
    expect(alice.dropped('bad-response')).toBe(1);
    alice.knows(bob, { presharedKey: key });
    lab.run(6000);
    expect(alice.statusOf(bob).lastHandshake?.at).toBeGreaterThan(lab.now - 6000);
    alice.send(bob, 'new key');
    lab.run(100);
    expect(bob.received()).toEqual(['new key']);
  });
});

describe('a peer', () => {
  test('that is removed loses its sessions, and its packets are refused', () => {
    const { lab, alice, bob } = twoHostsInSession();
    bob.tunnel.removePeer(alice.publicKey, bob.time);
    alice.send(bob, 'still there?');
    bob.send(alice, 'to nobody');
    lab.run(100);
    expect(bob.received()).toEqual([]);
    expect(bob.dropped('unknown-index')).toBe(1);
    expect(bob.dropped('no-peer')).toBe(1);
    lab.run(20_000);
    expect(bob.dropped('unknown-peer')).toBeGreaterThanOrEqual(1);
    expect(lab.wire.filter(({ source }) => source === bob.endpoint)).toEqual([]);
  });

  test('that is set again keeps its session', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.knows(bob, { allowedIps: [parsePrefix('10.0.0.2/32'), parsePrefix('10.9.0.0/16')] });
    alice.send(bob, 'as before');
    lab.run(100);
    expect(bob.received()).toEqual(['as before']);
    expect(lab.seen(1)).toEqual([]);
  });

  test("with the device's own public key is ignored", () => {
    const { lab, alice } = twoHosts();
    alice.knows(alice, { persistentKeepalive: 1000 });
    lab.run(10_000);
    expect(alice.tunnel.device.peerIds).not.toContain(alice.id);
    expect(lab.wire).toEqual([]);
  });

  test('with a key of low order may be configured and never gets a datagram', () => {
    const { lab, alice, bob } = twoHosts();
    const publicKey = new Uint8Array(32);
    const config = bob.asPeer({ publicKey, persistentKeepalive: 1000 });
    alice.tunnel.setPeer(config, alice.time);
    alice.send(bob, 'into the void');
    lab.run(10_000);
    expect(lab.wire).toEqual([]);
    expect(alice.tunnel.device.peerIds).toContain('00'.repeat(32));
  });

  test('with a malformed key is refused by name', () => {
    const { alice, bob } = twoHosts();
    const short = new Uint8Array(31);
    expect(() => alice.knows(bob, { publicKey: short })).toThrow('a public key has 32 bytes, not 31');
    expect(() => alice.knows(bob, { presharedKey: short })).toThrow('a preshared key has 32 bytes, not 31');
  });

  test('without an endpoint is reached as soon as it has one', () => {
    const { lab, alice, bob } = twoHosts();
    alice.knows(bob, { endpoints: [] });
    alice.send(bob, 'where are you?');
    lab.run(20_000);
    expect(lab.wire).toEqual([]);
    expect(alice.dropped('no-endpoint')).toBe(1);
    alice.knows(bob);
    alice.send(bob, 'there you are');
    lab.run(200);
    expect(bob.received()).toEqual(['there you are']);
  });
});

test('an agent that restarts with a new device is back within one handshake', () => {
  const { lab, alice, bob } = twoHostsInSession();
  lab.crash(alice);
  const again = lab.host({
    ...ALICE,
    privateKey: alice.privateKey,
    timestampMark: alice.tunnel.device.timestampMark,
  });
  again.knows(bob, { endpoints: [], learnedEndpoint: bob.endpoint });
  bob.send(again, 'lost');
  lab.run(50);
  expect(again.dropped('unknown-index')).toBe(1);
  again.tunnel.initiate(bob.publicKey, again.time);
  lab.run(50);
  bob.send(again, 'found');
  lab.run(50);
  expect(again.received()).toEqual(['found']);
});

test('all data is sealed, padded to 16 bytes, and no plaintext is on the wire', () => {
  const { lab, alice, bob } = twoHostsInSession();
  alice.send(bob, 'very secret and of odd length');
  lab.run(100);
  const [seen] = lab.wire.filter(isData);
  expect(((seen?.bytes.length ?? 0) - 32) % 16).toBe(0);
  expect(new TextDecoder('latin1').decode(seen?.bytes)).not.toContain('secret');
});
