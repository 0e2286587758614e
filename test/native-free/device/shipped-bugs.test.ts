// Mistakes that implementations of WireGuard, or of networks on top of it, have shipped: one test for each, named after
// the fact that shows its absence. Many of these facts are examined more closely beside this file, where they belong.

import { describe, expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { SEND_AFTER_MESSAGES_LIMIT } from '../../../native-free/noise/constants.ts';
import { REPLAY_WINDOW, ReplayWindow } from '../../../native-free/noise/replay.ts';
import {
  COOKIE_REPLY_TYPE,
  INITIATION_TYPE,
  Initiation,
  messageType,
  RESPONSE_TYPE,
  Response,
  Transport,
} from '../../../native-free/wire/message.ts';
import { ALICE, EVE, isData, isKeepalive, twoHosts, twoHostsInSession } from './lab.ts';
import { packet } from './packets.ts';

const MINUTE = 60_000;

describe('keepalives', () => {
  test('a keepalive is never answered by a keepalive', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.send(bob, 'one');
    lab.run(100_000);
    expect(lab.wire.filter(isKeepalive).map(({ source }) => source)).toEqual([bob.endpoint]);
  });

  test('the passive keepalive comes 10 s after the data that is unanswered, not after the last packet sent', () => {
    const { lab, alice, bob } = twoHostsInSession();
    bob.send(alice, 'sent');
    lab.run(7000);
    lab.wire.splice(0);
    alice.send(bob, 'received');
    const arrived = lab.now + lab.latency;
    lab.run(15_000);
    const [keepalive] = lab.wire.filter((one) => isKeepalive(one) && one.source === bob.endpoint);
    expect(keepalive?.at).toBeGreaterThanOrEqual(arrived + 10_000);
    expect(keepalive?.at).toBeLessThanOrEqual(arrived + 10_200);
  });

  test('the persistent keepalive is not sent while there is traffic', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.knows(bob, { persistentKeepalive: 5000 });
    for (let i = 0; i < 30; i++) {
      alice.send(bob, 'a stream one way');
      lab.run(2000);
    }
    expect(lab.wire.filter((one) => isKeepalive(one) && one.source === alice.endpoint)).toEqual([]);
    lab.wire.splice(0);
    for (let i = 0; i < 30; i++) {
      alice.send(bob, 'there');
      bob.send(alice, 'and back');
      lab.run(2000);
    }
    expect(lab.wire.filter(isKeepalive)).toEqual([]);
  });
});

describe('counters', () => {
  test('no nonce is used twice under one key, also over rekeys', () => {
    const { lab, alice, bob } = twoHostsInSession();
    for (let i = 0; i < 400; i++) {
      alice.send(bob, `${i}`);
      lab.run(1000);
    }
    const nonces = lab.seen(4, alice).map(({ bytes }) => {
      const message = Transport.parse(bytes);
      return `${message?.receiver} ${message?.counterHigh} ${message?.counterLow}`;
    });
    expect(nonces.length).toBeGreaterThanOrEqual(400);
    expect(new Set(nonces).size).toBe(nonces.length);
  });

  test('a session whose counter is used up seals nothing more, and another takes its place', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const before = alice.tunnel.plane.peer(bob.id).inUse;
    if (before === undefined) throw new Error('no session');
    before.sendCounter = SEND_AFTER_MESSAGES_LIMIT;
    alice.send(bob, 'one too many');
    expect(before.sendCounter).toBe(SEND_AFTER_MESSAGES_LIMIT);
    lab.run(6000);
    expect(bob.received()).toEqual(['one too many']);
  });

  test('the replay window holds more than 8000 counters and gives each of them once', () => {
    const window = new ReplayWindow();
    expect(REPLAY_WINDOW).toBeGreaterThan(8000);
    expect(window.accept(0, REPLAY_WINDOW)).toBe(true);
    for (let counter = 0; counter < REPLAY_WINDOW; counter++) expect(window.accept(0, counter)).toBe(true);
    for (let counter = 0; counter <= REPLAY_WINDOW; counter++) expect(window.accept(0, counter)).toBe(false);
  });

  test('a forgery does not move the replay window, nor does a replay', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.send(bob, 'true');
    lab.run(5);
    const [sent] = lab.seen(4, alice);
    if (sent === undefined) throw new Error('nothing was sent');
    const forged = sent.bytes.slice();
    forged.fill(0xff, 8, 14);
    for (const bytes of [forged, sent.bytes, sent.bytes, forged])
      lab.inject({ bytes, source: EVE.endpoint, destination: bob.endpoint });
    lab.run(50);
    expect(bob.received()).toEqual(['true']);
    expect([bob.dropped('unauthentic'), bob.dropped('replayed-counter')]).toEqual([2, 2]);
  });
});

describe('cookies and limits', () => {
  /** Bob thinks that many handshake messages wait whenever one arrives. */
  const underLoad = () => {
    const { lab, alice, bob } = twoHosts();
    const receive = bob.tunnel.fromOutside.bind(bob.tunnel);
    bob.tunnel.fromOutside = (bytes, source, time) => receive(bytes, source, time, 1000);
    return { lab, alice, bob };
  };

  test('a cookie is bound to the source port', () => {
    const { lab, alice, bob } = underLoad();
    lab.passes = ({ type }) => type !== RESPONSE_TYPE;
    alice.send(bob, 'hello');
    lab.run(6000);
    const [, second] = lab.seen(INITIATION_TYPE, alice);
    if (second === undefined) throw new Error('there was no second initiation');
    lab.wire.splice(0);
    lab.inject({ ...second, source: { ...alice.endpoint, port: 1234 } });
    expect(lab.wire.map(({ bytes }) => messageType(bytes))).toEqual([COOKIE_REPLY_TYPE]);
    lab.wire.splice(0);
    lab.inject(second);
    // The cookie holds: it is dropped as the replay that it is, without a cookie reply.
    expect(lab.wire).toEqual([]);
    expect(bob.dropped('replayed-initiation')).toBe(1);
  });

  test('a flood from one address does not shut out another', () => {
    const { lab, alice, bob } = underLoad();
    const eve = lab.host(EVE);
    eve.knows(bob);
    for (const host of [eve, alice]) host.send(bob, 'I want in');
    lab.run(4000);
    lab.passes = ({ source }) => source !== eve.endpoint;
    eve.tunnel.initiate(bob.publicKey, eve.time);
    lab.run(1500);
    const mine = lab.seen(INITIATION_TYPE, eve).at(-1);
    if (mine === undefined) throw new Error('eve was silent');
    lab.passes = () => true;
    for (let i = 0; i < 1000; i++) lab.inject(mine);
    expect(bob.dropped('rate-limited')).toBeGreaterThan(900);
    lab.run(1000);
    expect(bob.received()).toEqual(['I want in']);
  });

  test('the hundredth handshake is answered like the first', () => {
    const { lab, alice, bob } = twoHosts();
    for (let i = 0; i < 120; i++) {
      const before = lab.now;
      alice.tunnel.initiate(bob.publicKey, alice.time);
      lab.run(6000);
      expect(lab.seen(RESPONSE_TYPE, bob, before)).toHaveLength(1);
    }
    expect(lab.seen(COOKIE_REPLY_TYPE)).toEqual([]);
  });

  test('no endpoint moves by a cookie reply', () => {
    const { lab, alice, bob } = underLoad();
    alice.send(bob, 'hello');
    lab.run(15);
    const [reply] = lab.seen(COOKIE_REPLY_TYPE, bob);
    if (reply === undefined) throw new Error('there was no cookie reply');
    lab.inject({ ...reply, source: EVE.endpoint });
    expect(alice.dropped('bad-cookie')).toBe(0);
    expect(alice.statusOf(bob)).toMatchObject({ endpoint: bob.endpoint, learnedEndpoint: undefined });
    lab.run(6000);
    expect(bob.received()).toEqual(['hello']);
  });
});

describe('what others may send', () => {
  test("a peer cannot send from an address inside another's more specific allowed IPs", () => {
    const { lab, alice, bob } = twoHostsInSession();
    const carol = lab.host({ endpoint: EVE.endpoint, inside: '10.0.0.66' });
    bob.knows(alice, { allowedIps: [parsePrefix('10.0.0.0/24')] });
    bob.knows(carol);
    const from = (source: string): void =>
      alice.tunnel.fromInside(packet(source, bob.inside, source), alice.time);
    for (const source of ['10.0.0.1', '10.0.0.66', '10.0.0.67', '10.0.1.1']) from(source);
    lab.run(50);
    expect(bob.received()).toEqual(['10.0.0.1', '10.0.0.67']);
    expect(bob.dropped('wrong-source')).toBe(2);
  });

  test('after an oversized datagram of any type, all goes on', () => {
    const { lab, alice, bob } = twoHostsInSession();
    for (const type of [0, 1, 2, 3, 4, 5]) {
      const bytes = new Uint8Array(65_535).fill(0xee);
      bytes.set([type, 0, 0, 0]);
      lab.inject({ bytes, source: EVE.endpoint, destination: bob.endpoint });
    }
    alice.send(bob, 'still there');
    lab.run(50);
    expect(bob.received()).toEqual(['still there']);
  });

  test('no endpoint moves by a packet that does not authenticate, of any type', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.send(bob, 'something');
    alice.tunnel.initiate(bob.publicKey, alice.time);
    lab.run(6000);
    const sent = [...lab.wire];
    expect(new Set(sent.map(({ type }) => type))).toEqual(new Set([1, 2, 4]));
    for (const { bytes, destination } of sent) {
      const forged = bytes.slice();
      forged[20] = (forged[20] ?? 0) ^ 1;
      for (const one of [bytes, forged]) lab.inject({ bytes: one, source: EVE.endpoint, destination });
    }
    lab.run(100);
    expect(alice.statusOf(bob).endpoint).toEqual(bob.endpoint);
    expect(bob.statusOf(alice).endpoint).toEqual(alice.endpoint);
  });
});

describe('what is seen on the wire', () => {
  test('receiver indices are not to be guessed: they do not count up and use all bits', () => {
    const { lab, alice, bob } = twoHosts();
    for (let i = 0; i < 60; i++) {
      alice.tunnel.initiate(bob.publicKey, alice.time);
      lab.run(6000);
    }
    const indices = [
      ...lab.seen(INITIATION_TYPE).map(({ bytes }) => Initiation.parse(bytes)?.sender ?? 0),
      ...lab.seen(RESPONSE_TYPE).map(({ bytes }) => Response.parse(bytes)?.sender ?? 0),
    ];
    expect(new Set(indices).size).toBe(120);
    expect(indices.reduce((all, one) => all | one) >>> 0).toBe(0xffffffff);
    const steps = indices.slice(1).map((one, i) => Math.abs(one - (indices[i] ?? 0)));
    expect(Math.min(...steps)).toBeGreaterThan(1000);
  });

  test('data is padded to 16 bytes', () => {
    const { lab, alice, bob } = twoHostsInSession();
    for (let length = 1; length <= 40; length++) alice.send(bob, 'x'.repeat(length));
    lab.run(50);
    const sizes = lab.wire.filter(isData).map(({ bytes }) => bytes.length);
    expect(sizes).toHaveLength(40);
    expect(sizes.filter((size) => size % 16 !== 0)).toEqual([]);
    expect(bob.received().map((text) => text.length)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  });
});

describe('handshakes', () => {
  test('a handshake response that took longer than 250 ms still counts', () => {
    const { lab, alice, bob } = twoHosts();
    for (const latency of [130, 500, 2000]) {
      lab.latency = latency;
      lab.run(2 * MINUTE * 2);
      const before = lab.now;
      alice.send(bob, `${latency}`);
      lab.run(3 * latency + 10);
      expect(bob.received()).toEqual([`${latency}`]);
      expect(lab.seen(INITIATION_TYPE, alice, before)).toHaveLength(1);
    }
  });

  test('a changed preshared key applies to the next handshake', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const presharedKey = lab.random(32);
    bob.knows(alice, { presharedKey });
    lab.run(3 * MINUTE);
    alice.send(bob, 'with the old key');
    lab.run(20_000);
    expect(bob.received()).toEqual([]);
    alice.knows(bob, { presharedKey });
    lab.run(6000);
    expect(bob.received()).toEqual(['with the old key']);
  });

  test('the new handshake is timed by the first unanswered packet, however many follow', () => {
    const { lab, alice, bob } = twoHostsInSession();
    lab.passes = ({ source }) => source !== bob.endpoint;
    const first = lab.now;
    for (let i = 0; i < 20; i++) {
      alice.send(bob, 'anybody?');
      lab.run(1000);
    }
    const [initiation] = lab.seen(INITIATION_TYPE, alice);
    expect(initiation?.at).toBeGreaterThanOrEqual(first + 15_000);
    expect(initiation?.at).toBeLessThanOrEqual(first + 15_500);
  });

  test('nothing is sent under a session of 180 s, and what waits goes out under the next', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const created = alice.statusOf(bob).keypair?.createdAt ?? 0;
    lab.run(created + 180_000 - lab.now);
    lab.wire.splice(0);
    alice.send(bob, 'late');
    expect(lab.wire).toEqual([]);
    lab.run(50);
    expect(lab.wire[0]?.type).toBe(INITIATION_TYPE);
    expect(bob.received()).toEqual(['late']);
  });

  test('a clock that goes back does not block handshakes, not even over a restart', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const { timestampMark } = alice.tunnel.device;
    lab.crash(alice);
    const again = lab.host({ ...ALICE, privateKey: alice.privateKey, timestampMark });
    again.clockOffset = -365 * 24 * 60 * MINUTE;
    again.knows(bob);
    again.send(bob, 'what year is it?');
    lab.run(1000);
    expect(bob.received()).toEqual(['what year is it?']);
  });

  test('an endpoint learned through a NAT is not overwritten by what the registry announces every 30 s', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const mapped = { address: '203.0.113.200', port: 40_000 };
    alice.moveTo(mapped);
    alice.send(bob, 'from behind a NAT');
    lab.run(50);
    for (let i = 0; i < 4; i++) {
      bob.knows(alice, { endpoints: [ALICE.endpoint] });
      lab.run(30_000);
      expect(bob.statusOf(alice).endpoint).toEqual(mapped);
    }
    bob.send(alice, 'found you');
    lab.run(50);
    expect(alice.received()).toEqual(['found you']);
  });
});
