// The datapath on real interfaces: two of them, each in a host of its own, joined by a cable.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Host } from '../../lab/host.ts';
import { iperf3 } from '../../lab/iperf3.ts';
import { Lab } from '../../lab/lab.ts';
import { ping } from '../../lab/ping.ts';
import { End, join, twoHosts } from './tunnel.ts';

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
    a = await End.start(hostA, 'tun0');
    b = await End.start(hostB, 'tun0');
    join(a, b, outsideA, outsideB);
    a.allow({ b: ['10.0.0.2/32', 'fd00::2/128'] });
    b.allow({ a: ['10.0.0.1/32', 'fd00::1/128'] });
    await a.up(['10.0.0.1/24', 'fd00::1/64'], []);
    await b.up(['10.0.0.2/24', 'fd00::2/64'], []);
    await a.settled();
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

  test.each(['10.0.0.2', 'fd00::2'])('carries TCP to %s, both ways, as super-packets', async (address) => {
    const before = b.datapath.stats();
    const forth = await iperf3(hostA, hostB, address, { seconds: 1 });
    const back = await iperf3(hostA, hostB, address, { seconds: 1, reverse: true });
    const after = b.datapath.stats();
    expect(forth.bytes).toBeGreaterThan(1e6);
    expect(back.bytes).toBeGreaterThan(1e6);
    expect(after.egress['super-packets']).toBeGreaterThan(before.egress['super-packets']);
    expect(after.ingress['super-packets']).toBeGreaterThan(before.ingress['super-packets']);
  });
});
