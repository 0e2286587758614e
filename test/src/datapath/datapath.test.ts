// The datapath on real interfaces: two of them, each in a host of its own, joined by a cable.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Host } from '../../lab/host.ts';
import { iperf3 } from '../../lab/iperf3.ts';
import { Lab } from '../../lab/lab.ts';
import { ping } from '../../lab/ping.ts';
import { End, join, MTU, twoHosts } from './tunnel.ts';

const lab = Lab.create();
let hostA: Host;
let hostB: Host;

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
});
afterAll(async () => await lab.close());

describe.each([
  ['IPv4', '192.0.2.1', '192.0.2.2'],
  ['IPv6', '2001:db8::1', '2001:db8::2'],
])('a tunnel over %s', (_, outsideA, outsideB) => {
  let a: End;
  let b: End;

  beforeAll(async () => {
    [a, b] = await Promise.all([End.start(hostA, 'tun0'), End.start(hostB, 'tun0')]);
    join(a, b, outsideA, outsideB);
    a.allow({ b: ['10.0.0.2/32', 'fd00::2/128'] });
    b.allow({ a: ['10.0.0.1/32', 'fd00::1/128'] });
    await a.up(['10.0.0.1/24', 'fd00::1/64'], []);
    await b.up(['10.0.0.2/24', 'fd00::2/64'], []);
    await a.datapath.settled();
    await b.datapath.settled();
  });
  afterAll(async () => {
    await a.remove();
    await b.remove();
  });

  test.each(['10.0.0.2', 'fd00::2'])('carries pings to %s, small, large and fragmented', async (address) => {
    for (const size of [0, 56, 1392, 1400, 4000, 30000]) {
      expect(await ping(hostA, address, { count: 3, interval: 0.01, size })).toMatchObject({ received: 3 });
    }
  });

  test.each([
    ['10.0.0.2', false],
    ['fd00::2', true],
  ])('carries TCP to %s as super-packets (reverse: %s)', async (address, reverse) => {
    const [from, to] = reverse ? [b, a] : [a, b];
    const sent = from.datapath.stats().egress['super-packets'];
    const received = to.datapath.stats().ingress['super-packets'];
    const { bytes } = await iperf3(hostA, hostB, address, { seconds: 1, reverse });
    expect(bytes).toBeGreaterThan(1e6);
    expect(from.datapath.stats().egress['super-packets']).toBeGreaterThan(sent + 10);
    expect(to.datapath.stats().ingress['super-packets']).toBeGreaterThan(received + 10);
  });
});

describe.each([
  ['without UDP offloads', { allowOffloads: false }],
  ['without TUN offloads', { tunOffloads: false }],
  ['without any offload', { allowOffloads: false, tunOffloads: false }],
  ['with AEAD by bare OpenSSL', { aeadTier: 'openssl-low-level' }],
  ['with AEAD by EVP', { aeadTier: 'openssl-evp' }],
  ['with AEAD in TypeScript', { aeadTier: 'noble' }],
] as const)('%s', (_, options) => {
  test('TCP passes, and peers that have it talk to it', async () => {
    await using a = await End.start(hostA, 'tun0', options);
    await using b = await End.start(hostB, 'tun0');
    join(a, b, '192.0.2.1', '192.0.2.2');
    a.allow({ b: ['10.0.0.2/32'] });
    b.allow({ a: ['10.0.0.1/32'] });
    await a.up(['10.0.0.1/24'], []);
    await b.up(['10.0.0.2/24'], []);
    await a.datapath.settled();
    await b.datapath.settled();
    if ('aeadTier' in options) expect(a.datapath.aeadTier).toBe(options.aeadTier);
    if ('allowOffloads' in options)
      expect(a.datapath.offloads).toEqual({ segmentation: false, coalescing: false });
    if ('tunOffloads' in options) expect(a.tun.offload).toBe('none');
    // Both ways at once: either end sends to one that can do everything, and receives from it.
    const { bytes } = await iperf3(hostA, hostB, '10.0.0.2', { seconds: 1, options: ['--bidir'] });
    expect(bytes).toBeGreaterThan(100_000);
    if ('tunOffloads' in options) expect(a.datapath.stats().egress['super-packets']).toBe(0);
  });
});

test('a pod’s stream reaches the TUN as super-packets, through its veth and the router namespace', async () => {
  const routers: Host[] = [];
  const pods: Host[] = [];
  for (const n of [1, 2]) {
    const router = await lab.host(`router${n}`, { forward: true });
    const pod = await lab.host(`pod${n}`);
    await lab.cable(
      { host: pod, interface: 'red', addresses: [`10.0.${n}.2/24`] },
      { host: router, interface: 'pod', addresses: [`10.0.${n}.1/24`] },
      { mtu: MTU },
    );
    await pod.ip(`route add 10.0.0.0/16 via 10.0.${n}.1`);
    routers.push(router);
    pods.push(pod);
  }
  const [routerA = hostA, routerB = hostB] = routers;
  const [podA = hostA, podB = hostB] = pods;
  await using a = await End.start(hostA, 'tun0', { tunIn: routerA });
  await using b = await End.start(hostB, 'tun0', { tunIn: routerB });
  join(a, b, '192.0.2.1', '192.0.2.2');
  a.allow({ b: ['10.0.2.0/24'] });
  b.allow({ a: ['10.0.1.0/24'] });
  await a.up([], ['10.0.2.0/24']);
  await b.up([], ['10.0.1.0/24']);
  await a.datapath.settled();
  await b.datapath.settled();
  await iperf3(podA, podB, '10.0.2.2', { seconds: 1 });
  const sender = a.datapath.stats().egress;
  const receiver = b.datapath.stats().ingress;
  // 64 KB are some 48 segments; a stream that starts has smaller ones.
  expect(sender.packets / sender['super-packets']).toBeGreaterThan(20);
  expect(sender.packets / sender.sends).toBeGreaterThan(10);
  expect(receiver.packets / receiver.writes).toBeGreaterThan(10);
});
