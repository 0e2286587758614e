// What leaves: packets wait for a keypair and follow when there is one, nothing is sealed past its limits, and what
// has nowhere to go is dropped under its name.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { EgressCounter } from '../../../src/datapath/counters.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import type { Host } from '../../lab/host.ts';
import { Lab } from '../../lab/lab.ts';
import { ping } from '../../lab/ping.ts';
import { DEVICE, End, join, keypairs, twoHosts } from './tunnel.ts';

const lab = Lab.create();
let hostA: Host;
let hostB: Host;
let a: End;
let b: End;

const counted = async (name: EgressCounter, atLeast: number): Promise<void> => {
  for (let i = 0; i < 200 && a.datapath.stats().egress[name] < atLeast; i++) await sleep(5);
  expect(a.datapath.stats().egress[name]).toBeGreaterThanOrEqual(atLeast);
};
const handshakesAskedFor = (): number => a.events.filter(({ kind }) => kind === 'handshake-needed').length;
const heard = async (): Promise<void> => {
  for (let i = 0; i < 200 && handshakesAskedFor() === 0; i++) await sleep(5);
  expect(a.events[0]).toEqual({ kind: 'handshake-needed', peer: 'b' });
};

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
});
afterAll(async () => await lab.close());

beforeEach(async () => {
  [a, b] = await Promise.all([End.start(hostA, 'tun0', { pairs: 1 }), End.start(hostB, 'tun0')]);
  a.datapath.addPeer(DEVICE, 'b');
  b.datapath.addPeer(DEVICE, 'a');
  a.allow({ b: ['10.0.0.2/32', 'fd00::2/128'] });
  b.allow({ a: ['10.0.0.1/32', 'fd00::1/128'] });
  await a.up(['10.0.0.1/24', 'fd00::1/64'], []);
  await b.up(['10.0.0.2/24', 'fd00::2/64'], []);
  a.apply({
    kind: 'set-endpoint',
    peer: 'b',
    endpoint: { address: '192.0.2.2', port: b.datapath.port },
  });
  await a.datapath.settled();
  await b.datapath.settled();
});
afterEach(async () => {
  await a.remove();
  await b.remove();
});

test('without a keypair a packet waits, a handshake is asked for, and the packet follows the keypair', async () => {
  const answer = ping(hostA, '10.0.0.2', { wait: 5 });
  await heard();
  expect(a.datapath.stats().egress.packets).toBe(0);
  join(a, b, '192.0.2.1', '192.0.2.2');
  expect(await answer).toMatchObject({ received: 1 });
});

test('the newest 128 packets wait, older ones are dropped; after giving up none is left', async () => {
  const started = performance.now();
  await ping(hostA, '10.0.0.2', { count: 200, interval: 0.002, wait: 0.1 });
  await counted('dropped:staged-overflow', 72);
  expect(handshakesAskedFor()).toBeGreaterThan(0);
  expect(handshakesAskedFor()).toBeLessThan(2 + (performance.now() - started) / 250);
  a.apply({ kind: 'drop-staged', peer: 'b' });
  await counted('dropped:given-up', 128);
  join(a, b, '192.0.2.1', '192.0.2.2');
  await sleep(50);
  expect(a.datapath.stats().egress.packets).toBe(0);
});

test('a checksum that the kernel left to us is right in a packet that waited', async () => {
  const server = hostB.start(['iperf3', '--server', '--one-off', '--forceflush']);
  await server.printed(/Server listening/);
  const client = hostA.tryRun([
    'iperf3',
    '--client',
    '10.0.0.2',
    '--bytes',
    '100K',
    '--connect-timeout',
    '800',
  ]);
  await heard();
  join(a, b, '192.0.2.1', '192.0.2.2');
  // The SYN that waited must be answered: its retransmission would come after 1 s, which is too late.
  expect(await client).toMatchObject({ code: 0 });
});

test('nothing is sealed under a keypair of 180 s', async () => {
  const [old] = keypairs(monotonicNow() - 180_000);
  a.apply(
    { kind: 'set-endpoint', peer: 'b', endpoint: { address: '192.0.2.2', port: b.datapath.port } },
    { kind: 'install-keypair', peer: 'b', keypair: old },
    { kind: 'use-keypair', peer: 'b', localIndex: old.localIndex },
    { kind: 'send-keepalive', peer: 'b' },
  );
  await ping(hostA, '10.0.0.2', { wait: 0.1 });
  await heard();
  expect(a.datapath.stats().egress.packets).toBe(0);
  expect(a.datapath.activity(DEVICE, 'b')).toMatchObject({ sentAt: 0, txBytes: 0, sendCounter: 0 });
});

test('a keepalive is 32 bytes, counts as sent but not as data, and is authentic', async () => {
  join(a, b, '192.0.2.1', '192.0.2.2');
  a.apply({ kind: 'send-keepalive', peer: 'b' });
  for (let i = 0; i < 100 && b.datapath.activity(DEVICE, 'a')?.rxBytes === 0; i++) await sleep(5);
  expect(b.datapath.activity(DEVICE, 'a')).toMatchObject({ rxBytes: 32, dataReceivedAt: 0 });
  const sent = a.datapath.activity(DEVICE, 'b');
  expect(sent).toMatchObject({ txBytes: 32, dataSentAt: 0, sendCounter: 1 });
  expect(sent?.sentAt).toBeGreaterThan(0);
});

test('a keepalive without a keypair is not sent', async () => {
  a.apply({ kind: 'send-keepalive', peer: 'b' });
  await sleep(50);
  expect(a.datapath.activity(DEVICE, 'b')).toMatchObject({ sentAt: 0 });
  expect(a.events).toEqual([]);
});

test('a packet to no peer’s allowed IPs is dropped, also after the peer has gone', async () => {
  join(a, b, '192.0.2.1', '192.0.2.2');
  await a.tunHost.ip(`route replace 10.7.0.0/16 dev tun0`);
  await ping(hostA, '10.7.0.1', { wait: 0.1 });
  await counted('dropped:no-peer', 1);
  expect(await ping(hostA, '10.0.0.2')).toMatchObject({ received: 1 });
  a.datapath.removePeer(DEVICE, 'b');
  await a.datapath.settled();
  const before = a.datapath.stats().egress['dropped:no-peer'];
  await ping(hostA, '10.0.0.2', { wait: 0.1 });
  await counted('dropped:no-peer', before + 1);
});

test('a peer without an endpoint gets nothing, and everything once it has one', async () => {
  join(a, b, '192.0.2.1', '192.0.2.2');
  a.apply({ kind: 'set-endpoint', peer: 'b', endpoint: undefined });
  await ping(hostA, '10.0.0.2', { wait: 0.1 });
  await counted('dropped:no-endpoint', 1);
  a.apply({ kind: 'set-endpoint', peer: 'b', endpoint: { address: '2001:db8::2', port: b.datapath.port } });
  expect(await ping(hostA, '10.0.0.2')).toMatchObject({ received: 1 });
});

test.each([
  ['for which there is no peer', '10.7.0.1', 'fd07::1', 'dropped:no-peer'],
  ['whose peer has no endpoint', '10.0.0.2', 'fd00::2', 'dropped:no-endpoint'],
] as const)('a packet %s is answered as unreachable, and a connection fails at once', async (...args) => {
  const [, v4, v6, reason] = args;
  a.apply({ kind: 'set-endpoint', peer: 'b', endpoint: undefined });
  await hostA.ip('route replace 10.7.0.0/16 dev tun0', 'route replace fd07::/16 dev tun0');
  for (const address of [v4, v6]) {
    const { stdout } = await hostA.tryRun(['ping', '-c', '1', '-W', '5', address]);
    expect(stdout).toMatch(/From .* Destination (Host Unreachable|unreachable: Address unreachable)/);
    const { stderr } = await hostA.tryRun(['bash', '-c', `exec 3<>/dev/tcp/${address}/7`]);
    expect(stderr).toContain('No route to host');
  }
  expect(a.datapath.stats().egress[reason]).toBeGreaterThanOrEqual(4);
  expect(handshakesAskedFor()).toBe(0);
});

test('a flood of packets to nowhere is answered a bounded number of times', async () => {
  await hostA.ip('route replace 10.7.0.0/16 dev tun0');
  const started = performance.now();
  await ping(hostA, '10.7.0.1', { count: 300, interval: 0.002, wait: 0.1 });
  await counted('dropped:no-peer', 300);
  const earned = ((performance.now() - started) / 1000) * 100;
  expect(a.datapath.stats().egress.unreachables).toBeGreaterThan(49);
  expect(a.datapath.stats().egress.unreachables).toBeLessThanOrEqual(51 + earned);
});

test.each([
  ['192.0.2.1', '192.0.2.2'],
  ['2001:db8::1', '2001:db8::2'],
])('from %s a message larger than the way out leaves in pieces', async (ofA, ofB) => {
  join(a, b, ofA, ofB);
  for (const host of [hostA, hostB]) await host.ip('link set eth0 mtu 1400');
  try {
    expect(await ping(hostA, '10.0.0.2', { size: 1392 })).toMatchObject({ received: 1 });
    expect(await ping(hostA, '10.0.0.2', { size: 30_000 })).toMatchObject({ received: 1 });
    expect(a.datapath.stats().egress['dropped:too-big']).toBe(0);
  } finally {
    for (const host of [hostA, hostB]) await host.ip('link set eth0 mtu 1500');
  }
});

test('the session changes under traffic without a packet lost', async () => {
  join(a, b, '192.0.2.1', '192.0.2.2');
  const answer = ping(hostA, '10.0.0.2', { count: 200, interval: 0.002 });
  for (let i = 0; i < 20; i++) {
    const [ofA, ofB] = keypairs();
    b.apply({ kind: 'install-keypair', peer: 'a', keypair: ofB });
    a.apply(
      { kind: 'install-keypair', peer: 'b', keypair: ofA },
      { kind: 'use-keypair', peer: 'b', localIndex: ofA.localIndex },
    );
    b.apply({ kind: 'use-keypair', peer: 'a', localIndex: ofB.localIndex });
    await sleep(20);
  }
  expect(await answer).toMatchObject({ received: 200 });
});
