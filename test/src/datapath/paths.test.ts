// A host with several addresses answers from the one it was spoken to at, and goes on when that one is taken away.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Host } from '../../lab/host.ts';
import { Lab } from '../../lab/lab.ts';
import { ping } from '../../lab/ping.ts';
import { Eve } from './eve.ts';
import { End, join, twoHosts } from './tunnel.ts';

const lab = Lab.create();
let hostA: Host;
let hostB: Host;
let a: End;
let b: End;

const PATHS = [
  ['IPv4', '192.0.2.2', '192.0.2.11', '/24'],
  ['IPv6', '2001:db8::2', '2001:db8::11', '/64'],
] as const;

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
});
afterAll(async () => await lab.close());
beforeEach(async () => {
  for (const [, , second, length] of PATHS)
    await hostA.ip(
      `address replace ${second}${length} dev eth0 nodad`.replace(/(\.\S+ dev eth0) nodad/, '$1'),
    );
  [a, b] = await Promise.all([End.start(hostA, 'tun0'), End.start(hostB, 'tun0')]);
});
afterEach(async () => {
  await a.remove();
  await b.remove();
});

const movedTo = (): string[] =>
  b.events.flatMap((event) => (event.kind === 'endpoint-moved' ? [event.endpoint.address] : []));

test.each(PATHS)(
  'over %s it answers from the address it was spoken to at',
  async (_, ofB, second, length) => {
    join(a, b, second, ofB);
    a.allow({ b: ['10.0.0.2/32'] });
    b.allow({ a: ['10.0.0.1/32'] });
    await a.up(['10.0.0.1/24'], []);
    await b.up(['10.0.0.2/24'], []);
    await Promise.all([a.datapath.settled(), b.datapath.settled()]);
    expect(await ping(hostB, '10.0.0.1', { count: 5, interval: 0.01 })).toMatchObject({ received: 5 });
    // Else b would have heard a elsewhere than where it sends to.
    expect(movedTo()).toEqual([]);

    await hostA.ip(`address delete ${second}${length} dev eth0`);
    expect(await ping(hostA, '10.0.0.2', { count: 3, interval: 0.2, wait: 1 })).toMatchObject({
      received: 3,
    });
    for (let i = 0; i < 200 && movedTo().length === 0; i++) await sleep(5);
    expect(movedTo().length).toBeGreaterThan(0);
    expect(movedTo()).not.toContain(second);
    expect(a.datapath.stats().egress['dropped:send-failed']).toBe(0);
  },
);

test.each(PATHS)('over %s so does a handshake', async (_, ofB, second) => {
  const eve = new Eve(hostB);
  try {
    const initiation = new Uint8Array(148);
    initiation[0] = 1;
    eve.send(initiation, { address: second, port: a.datapath.port });
    for (let i = 0; i < 200 && a.datagrams.length === 0; i++) await sleep(5);
    const [received] = a.datagrams;
    if (received === undefined) throw new Error('nothing came');
    expect(received.source).toEqual({ address: ofB, port: eve.port, local: second });
    await hostB.nft(`
table inet seen
delete table inet seen
table inet seen {
  counter from { }
  chain c {
    type filter hook prerouting priority -300
    ${second.includes(':') ? 'ip6' : 'ip'} saddr ${second} udp dport ${eve.port} counter name from
  }
}
`);
    expect(a.datapath.send(new Uint8Array(92), received.source)).toBe(true);
    const seen = async (): Promise<string> =>
      await hostB.run(['nft', '-j', 'list', 'counter', 'inet', 'seen', 'from']);
    for (let i = 0; i < 200 && !(await seen()).includes('"packets": 1'); i++) await sleep(5);
    expect(await seen()).toContain('"packets": 1');
    await hostA.ip(`address delete ${second}${second.includes(':') ? '/64' : '/24'} dev eth0`);
    expect(a.datapath.send(new Uint8Array(92), received.source)).toBe(true);
  } finally {
    eve.close();
  }
});
