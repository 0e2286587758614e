import { describe, expect, test } from 'vitest';
import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import { EVE, twoHosts, twoHostsInSession } from './lab.ts';

const ELSEWHERE: Endpoint = { address: '192.0.2.99', port: 40000 };
const NOWHERE: Endpoint = { address: '192.0.2.250', port: 1 };

describe('a peer that moves', () => {
  test('is followed at its first data from the new address', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.moveTo(ELSEWHERE);
    alice.send(bob, 'I moved');
    lab.run(50);
    bob.send(alice, 'I follow');
    lab.run(50);
    expect(alice.received()).toEqual(['I follow']);
    expect(bob.statusOf(alice).endpoint).toEqual(ELSEWHERE);
  });

  test('is followed at its initiation', () => {
    const { lab, alice, bob } = twoHostsInSession();
    lab.run(6000);
    alice.moveTo(ELSEWHERE);
    alice.tunnel.initiate(bob.publicKey, alice.time);
    lab.passes = ({ type }) => type === 1;
    lab.run(50);
    expect(bob.statusOf(alice).endpoint).toEqual(ELSEWHERE);
  });

  test('is followed at its response', () => {
    const { lab, alice, bob } = twoHosts();
    bob.moveTo(ELSEWHERE);
    lab.internet.socket({ address: '198.51.100.2', port: 51820 }, ({ bytes, source }) => {
      bob.tunnel.fromOutside(bytes, source, bob.time);
    });
    alice.send(bob, 'hello');
    lab.run(100);
    expect(bob.received()).toEqual(['hello']);
    expect(alice.statusOf(bob).endpoint).toEqual(ELSEWHERE);
  });
});

describe("eve's address is not taken for a peer's", () => {
  const { endpoint: eve } = EVE;

  test('when she replays data', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.send(bob, 'hello');
    lab.run(50);
    const data = lab.seen(4, alice).at(-1);
    lab.inject({ bytes: data?.bytes ?? new Uint8Array(), source: eve, destination: bob.endpoint });
    expect(bob.dropped('replayed-counter')).toBe(1);
    expect(bob.statusOf(alice).endpoint).toEqual(alice.endpoint);
  });

  test('when she forges data', () => {
    const { lab, alice, bob } = twoHostsInSession();
    lab.passes = () => false;
    alice.send(bob, 'hello');
    lab.run(50);
    const bytes = lab.seen(4, alice).at(-1)?.bytes.slice() ?? new Uint8Array();
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    lab.inject({ bytes, source: eve, destination: bob.endpoint });
    expect(bob.dropped('unauthentic')).toBe(1);
    expect(bob.statusOf(alice).endpoint).toEqual(alice.endpoint);
  });

  test('when she replays an initiation', () => {
    const { lab, alice, bob } = twoHosts();
    alice.send(bob, 'hello');
    lab.run(200);
    const [initiation] = lab.seen(1, alice);
    lab.inject({ bytes: initiation?.bytes ?? new Uint8Array(), source: eve, destination: bob.endpoint });
    expect(bob.dropped('replayed-initiation')).toBe(1);
    expect(bob.statusOf(alice).endpoint).toEqual(alice.endpoint);
    expect(lab.wire.filter(({ destination }) => destination === eve)).toEqual([]);
  });

  test('when she sends a cookie reply with the right receiver index', () => {
    const { lab, alice, bob } = twoHosts();
    lab.passes = () => false;
    alice.send(bob, 'hello');
    lab.run(50);
    const bytes = new Uint8Array(64);
    bytes[0] = 3;
    bytes.set(lab.seen(1, alice)[0]?.bytes.subarray(4, 8) ?? [], 4);
    lab.inject({ bytes, source: eve, destination: alice.endpoint });
    expect(alice.dropped('bad-cookie')).toBe(1);
    expect(alice.statusOf(bob).endpoint).toEqual(bob.endpoint);
  });
});

describe('an endpoint that was learned', () => {
  test('is not overwritten by what is announced, however often', () => {
    const { lab, alice, bob } = twoHostsInSession();
    alice.moveTo(ELSEWHERE);
    alice.send(bob, 'from behind a NAT');
    lab.run(50);
    for (let i = 0; i < 10; i++) {
      bob.knows(alice, { endpoints: [NOWHERE] });
      bob.send(alice, 'still here?');
      lab.run(1000);
    }
    expect(bob.statusOf(alice).endpoint).toEqual(ELSEWHERE);
    expect(alice.received().length).toBe(10);
  });

  test('gets the first three initiations of a session that died, then announced ones get their turn', () => {
    const { lab, alice, bob } = twoHostsInSession();
    const old = bob.endpoint;
    lab.run(30_000);
    bob.moveTo(ELSEWHERE);
    alice.knows(bob, { endpoints: [NOWHERE, ELSEWHERE] });
    for (let i = 0; i < 50; i++) {
      alice.send(bob, `${i}`);
      lab.run(1000);
    }
    expect(lab.seen(1, alice).map(({ destination }) => destination)).toEqual([
      old,
      old,
      old,
      NOWHERE,
      ELSEWHERE,
    ]);
    expect(bob.received()).toContain('49');
    expect(alice.statusOf(bob).learnedEndpoint).toEqual(ELSEWHERE);
  });

  test('of an earlier life is tried first', () => {
    const { lab, alice, bob } = twoHosts();
    alice.tunnel.removePeer(bob.publicKey, alice.time);
    alice.knows(bob, { endpoints: [NOWHERE], learnedEndpoint: bob.endpoint });
    alice.send(bob, 'hello again');
    lab.run(100);
    expect(bob.received()).toEqual(['hello again']);
  });
});

test('candidates are tried in turn, one each retry, until one answers', () => {
  const { lab, alice, bob } = twoHosts();
  const third: Endpoint = { address: '192.0.2.251', port: 2 };
  alice.knows(bob, { endpoints: [NOWHERE, third, bob.endpoint] });
  alice.send(bob, 'found you');
  lab.run(12_000);
  expect(bob.received()).toEqual(['found you']);
  expect(lab.seen(1, alice).map(({ destination }) => destination)).toEqual([NOWHERE, third, bob.endpoint]);
});

test('a peer with no announced endpoint at all answers whoever it authenticates', () => {
  const { lab, alice, bob } = twoHosts();
  bob.knows(alice, { endpoints: [] });
  alice.send(bob, 'ping');
  lab.run(100);
  bob.send(alice, 'pong');
  lab.run(100);
  expect(alice.received()).toEqual(['pong']);
});
