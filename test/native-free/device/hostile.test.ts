import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { EVE, type Host, isData, type Lab, twoHosts, twoHostsInSession } from './lab.ts';
import { packet } from './packets.ts';

const { endpoint: eve } = EVE;

const inject = (lab: Lab, to: Host, bytes: Uint8Array): void =>
  lab.inject({ bytes, source: eve, destination: to.endpoint });

describe('an initiation', () => {
  /** One of alice's, which bob has not seen. */
  const captured = () => {
    const hosts = twoHosts();
    hosts.lab.passes = () => false;
    hosts.alice.tunnel.initiate(hosts.bob.publicKey, hosts.alice.time);
    hosts.lab.run(5);
    hosts.lab.passes = () => true;
    const bytes = hosts.lab.seen(1)[0]?.bytes.slice() ?? new Uint8Array();
    hosts.lab.wire.splice(0);
    return { ...hosts, bytes };
  };

  test('is answered once, replayed or not', () => {
    const { lab, bob, bytes } = captured();
    inject(lab, bob, bytes);
    lab.run(100);
    inject(lab, bob, bytes);
    lab.run(100);
    expect(lab.seen(2, bob).length).toBe(1);
    expect(bob.dropped('replayed-initiation')).toBe(1);
  });

  test('with any bit changed gets no answer', () => {
    const { lab, bob, bytes } = captured();
    for (let bit = 0; bit < 132 * 8; bit++) {
      const forged = bytes.slice();
      forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      inject(lab, bob, forged);
    }
    expect(lab.wire).toEqual([]);
    inject(lab, bob, bytes);
    expect(lab.seen(2, bob).length).toBe(1);
  });

  test('of any other length gets no answer and does no harm', () => {
    const { lab, bob, bytes } = captured();
    for (let length = 0; length < bytes.length; length++) inject(lab, bob, bytes.subarray(0, length));
    inject(lab, bob, Uint8Array.of(...bytes, 0));
    inject(lab, bob, new Uint8Array(65_535).fill(1));
    expect(lab.wire).toEqual([]);
  });

  test('less than 20 ms after another from the same peer is dropped, then taken', () => {
    const { lab, alice, bob, bytes } = captured();
    lab.passes = ({ type }) => type !== 1;
    lab.run(6_000);
    const second = lab.seen(1, alice)[0]?.bytes ?? new Uint8Array();
    inject(lab, bob, bytes);
    lab.run(15);
    inject(lab, bob, second);
    expect(bob.dropped('flooded-initiation')).toBe(1);
    lab.run(5);
    inject(lab, bob, second);
    lab.run(5);
    expect(lab.seen(2, bob).length).toBe(2);
  });

  test('from a stranger gets no answer', () => {
    const { lab, bob } = twoHosts();
    const stranger = lab.host(EVE);
    stranger.knows(bob);
    stranger.tunnel.initiate(bob.publicKey, stranger.time);
    lab.run(1000);
    expect(lab.seen(2)).toEqual([]);
    expect(bob.dropped('unknown-peer')).toBe(1);
  });
});

describe('data', () => {
  test('with any bit changed is dropped', () => {
    const { lab, alice, bob } = twoHostsInSession();
    lab.passes = () => false;
    alice.send(bob, 'hello');
    lab.run(5);
    const bytes = lab.seen(4, alice)[0]?.bytes ?? new Uint8Array();
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const forged = bytes.slice();
      forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      inject(lab, bob, forged);
    }
    expect(bob.received()).toEqual([]);
    inject(lab, bob, bytes);
    expect(bob.received()).toEqual(['hello']);
  });

  test('that comes twice is delivered once, also out of order', () => {
    const { lab, alice, bob } = twoHostsInSession();
    lab.passes = () => false;
    for (let i = 0; i < 50; i++) alice.send(bob, `${i}`);
    lab.run(5);
    const shuffled = lab
      .seen(4, alice)
      .toSorted((a, b) => (((a.bytes[8] ?? 0) * 7) % 50) - (((b.bytes[8] ?? 0) * 7) % 50));
    for (const { bytes } of [...shuffled, ...shuffled.toReversed()]) inject(lab, bob, bytes);
    expect(bob.received().toSorted()).toEqual(Array.from({ length: 50 }, (_, i) => `${i}`).toSorted());
    expect(bob.dropped('replayed-counter')).toBe(50);
  });

  test("with a source inside another peer's more specific allowed IPs is dropped", () => {
    const { lab, alice, bob } = twoHostsInSession();
    const carol = lab.host({ endpoint: { address: '192.0.2.3', port: 3 }, inside: '10.0.0.3' });
    bob.knows(alice, { allowedIps: [parsePrefix('10.0.0.0/24')] });
    bob.knows(carol);
    for (const source of ['10.0.0.3', '10.0.0.4', '10.0.1.1'])
      alice.tunnel.fromInside(packet(source, bob.inside, source), alice.time);
    lab.run(50);
    expect(bob.received()).toEqual(['10.0.0.4']);
    expect(bob.dropped('wrong-source')).toBe(2);
  });

  test('that holds no IP packet is dropped', () => {
    const { lab, alice, bob } = twoHostsInSession();
    for (const bytes of [new Uint8Array(100), new Uint8Array(100).fill(0x45), new Uint8Array(1)]) {
      alice.tunnel.plane.peer(bob.id).staged.push(bytes);
      alice.send(bob, 'sound');
    }
    lab.run(50);
    expect(bob.received()).toEqual(['sound', 'sound', 'sound']);
    expect(bob.dropped('malformed-packet')).toBe(3);
  });

  test('that is malformed never enters the tunnel', () => {
    const { alice, bob, lab } = twoHostsInSession();
    alice.tunnel.fromInside(new Uint8Array(0), alice.time);
    alice.tunnel.fromInside(new Uint8Array(19), alice.time);
    alice.tunnel.fromInside(packet(alice.inside, bob.inside, 'cut').subarray(0, 22), alice.time);
    alice.tunnel.fromInside(packet(alice.inside, '10.99.0.1', 'to nobody'), alice.time);
    expect(alice.dropped('malformed-packet')).toBe(3);
    expect(alice.dropped('no-peer')).toBe(1);
    expect(lab.wire).toEqual([]);
  });
});

test('no datagram whatever throws or gets an answer', () => {
  const { lab, alice, bob } = twoHostsInSession();
  const index = lab.internet;
  const length = fc.oneof(fc.constantFrom(0, 1, 4, 31, 32, 64, 92, 148), fc.nat(300));
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 5 }),
      length,
      fc.infiniteStream(fc.nat(255)),
      (type, length, stream) => {
        const bytes = Uint8Array.from({ length }, () => stream.next().value);
        bytes.set([type, 0, 0, 0].slice(0, length));
        index.deliver({ bytes, source: eve, destination: bob.endpoint });
      },
    ),
    { numRuns: 500 },
  );
  lab.run(100);
  expect(lab.wire).toEqual([]);
  alice.send(bob, 'unimpressed');
  lab.run(50);
  expect(bob.received()).toEqual(['unimpressed']);
});

describe('a wall clock that goes backwards', () => {
  test('does not block handshakes', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.clockOffset = -365 * 24 * 3600 * 1000;
    for (let i = 0; i < 300; i++) {
      alice.send(bob, `${i}`);
      lab.run(1000);
    }
    expect(bob.received().length).toBe(300);
    expect(bob.dropped('replayed-initiation')).toBe(0);
  });

  test('does not block them after a restart either, given the mark', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const options = { endpoint: alice.endpoint, inside: alice.inside, privateKey: alice.privateKey };
    lab.crash(alice);
    const again = lab.host({ ...options, timestampMark: alice.tunnel.device.timestampMark });
    again.clockOffset = -365 * 24 * 3600 * 1000;
    again.knows(bob);
    again.send(bob, 'back');
    lab.run(100);
    expect(bob.received()).toEqual(['back']);
  });

  test('would block them without the mark, which is why it is kept', () => {
    const { lab, alice, bob } = twoHostsInSession();
    lab.crash(alice);
    const again = lab.host({ endpoint: alice.endpoint, inside: alice.inside, privateKey: alice.privateKey });
    again.clockOffset = -365 * 24 * 3600 * 1000;
    again.knows(bob);
    again.send(bob, 'back');
    lab.run(100);
    expect(bob.received()).toEqual([]);
    expect(bob.dropped('replayed-initiation')).toBe(1);
  });
});

test("eve, who knows all public keys and has one of her own, gets nothing of alice's and bob's", () => {
  const { lab, alice, bob } = twoHostsInSession();
  const intruder = lab.host(EVE);
  intruder.knows(alice);
  intruder.knows(bob);
  alice.send(bob, 'between us');
  lab.run(50);
  for (const { bytes } of lab.wire.filter(isData)) inject(lab, intruder, bytes);
  intruder.send(bob, 'let me in');
  lab.run(30_000);
  expect(intruder.received()).toEqual([]);
  expect(bob.received()).toEqual(['between us']);
});
