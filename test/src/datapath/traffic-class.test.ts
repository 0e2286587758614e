// What the outer IP header says besides addresses, seen by nftables on the way: ECN marks go in and come out as RFC 6040
// has it, and handshakes have a class of their own.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Host } from '../../lab/host.ts';
import { iperf3 } from '../../lab/iperf3.ts';
import { Lab } from '../../lab/lab.ts';
import { ping } from '../../lab/ping.ts';
import { End, join, twoHosts } from './tunnel.ts';

const lab = Lab.create();
let hostA: Host;
let hostB: Host;
let a: End;
let b: End;

/** Outer packets are counted, and marked if told to, as they come in; inner ones as they leave the tunnel. */
const watch = async (rules: { readonly outer?: string; readonly inner?: string }): Promise<void> => {
  const { outer = '', inner = '' } = rules;
  await hostB.nft(`
table inet seen
delete table inet seen
table inet seen {
  counter outer { }
  counter inner { }
  chain sparse {
    counter name outer
  }
  chain bulk {
    counter name inner
  }
  chain c {
    type filter hook prerouting priority -300
    iifname "eth0" udp dport ${b.datapath.port} ${outer}
    iifname "tun0" ${inner}
  }
}
`);
};
const count = async (name: 'outer' | 'inner'): Promise<number> => {
  const listed = await hostB.run(['nft', '-j', 'list', 'counter', 'inet', 'seen', name]);
  return Number(/"packets": (\d+)/.exec(listed)?.[1] ?? -1);
};
/** Sends three echo requests with this traffic class; how many were answered in time. */
const answered = async (to: string, trafficClass: number, wait = 30): Promise<number> =>
  (await ping(hostA, to, { count: 3, interval: 0.05, wait, trafficClass })).received;

const PATHS = [
  ['IPv4', 'ip', '192.0.2.1', '192.0.2.2'],
  ['IPv6', 'ip6', '2001:db8::1', '2001:db8::2'],
] as const;

beforeAll(async () => {
  [hostA, hostB] = await twoHosts(lab);
});
afterAll(async () => {
  await lab.close();
});

test.each(PATHS)(
  'over %s a mark enters the tunnel, and congestion on the way leaves it',
  async (_, ip, ofA, ofB) => {
    [a, b] = await Promise.all([End.start(hostA, 'tun0'), End.start(hostB, 'tun0')]);
    try {
      join(a, b, ofA, ofB);
      for (const end of [a, b])
        end.allow({ a: ['10.0.0.1/32', 'fd00::1/128'], b: ['10.0.0.2/32', 'fd00::2/128'] });
      await a.up(['10.0.0.1/24', 'fd00::1/64'], []);
      await b.up(['10.0.0.2/24', 'fd00::2/64'], []);
      await Promise.all([a.datapath.settled(), b.datapath.settled()]);

      await watch({ outer: `${ip} ecn ect0 counter name outer`, inner: 'ip ecn ect0 counter name inner' });
      expect(await answered('10.0.0.2', 2)).toBe(3);
      expect([await count('outer'), await count('inner')]).toEqual([3, 3]);
      await watch({ outer: `${ip} ecn ect1 counter name outer`, inner: 'ip6 ecn ect1 counter name inner' });
      expect(await answered('fd00::2', 1)).toBe(3);
      expect([await count('outer'), await count('inner')]).toEqual([3, 3]);
      await watch({
        outer: `${ip} dscp af22 ${ip} ecn not-ect counter name outer`,
        inner: 'ip dscp 46 counter name inner',
      });
      expect(await answered('10.0.0.2', 46 << 2)).toBe(3);
      expect([await count('outer'), await count('inner')]).toEqual([3, 3]);

      await watch({ outer: `${ip} ecn set ce counter name outer`, inner: 'ip ecn ce counter name inner' });
      expect(await answered('10.0.0.2', 2)).toBe(3);
      expect(await count('inner')).toBe(3);
      await watch({ outer: `${ip} ecn set ce counter name outer`, inner: 'ip6 ecn ce counter name inner' });
      expect(await answered('fd00::2', 1)).toBe(3);
      expect(await count('inner')).toBe(3);
      const before = b.datapath.stats().ingress['dropped:congested'];
      await watch({
        outer: `${ip} ecn set ce counter name outer`,
        inner: 'ip protocol icmp counter name inner',
      });
      expect(await answered('10.0.0.2', 0, 1)).toBe(0);
      const dropped = (): number => b.datapath.stats().ingress['dropped:congested'] - before;
      for (let i = 0; i < 200 && dropped() < 3; i++) await sleep(20);
      expect([await count('outer'), await count('inner'), dropped()]).toEqual([3, 0, 3]);
    } finally {
      await a.remove();
      await b.remove();
    }
  },
);

test.each(PATHS)(
  'over %s what a flow sends first is marked AF22, and bulk is not',
  async (_, ip, ofA, ofB) => {
    [a, b] = await Promise.all([End.start(hostA, 'tun0'), End.start(hostB, 'tun0')]);
    try {
      join(a, b, ofA, ofB);
      for (const end of [a, b]) end.allow({ a: ['10.0.0.1/32'], b: ['10.0.0.2/32'] });
      await a.up(['10.0.0.1/24'], []);
      await b.up(['10.0.0.2/24'], []);
      await Promise.all([a.datapath.settled(), b.datapath.settled()]);
      await watch({ outer: `${ip} dscp vmap { af22 : jump sparse, 0 : jump bulk }` });
      const { bytes } = await iperf3(hostA, hostB, '10.0.0.2', { seconds: 1 });
      expect(bytes).toBeGreaterThan(1_000_000);
      const [sparse, bulk] = [await count('outer'), await count('inner')];
      expect(sparse).toBeGreaterThan(5);
      // Of each connection one burst, and what little it sends while it begins or ends.
      expect(sparse).toBeLessThan(200);
      expect(bulk).toBeGreaterThan(sparse);
    } finally {
      await a.remove();
      await b.remove();
    }
  },
);

test.each(PATHS)('over %s a handshake is sent as AF41', async (_, ip, _ofA, ofB) => {
  [a, b] = await Promise.all([End.start(hostA, 'tun0'), End.start(hostB, 'tun0')]);
  try {
    await watch({ outer: `${ip} dscp af41 counter name outer` });
    // Whoever has sent to an IPv6 neighbour before need not wait for it.
    await hostA.run(['ping', '-c', '1', ofB]);
    const before = await count('outer');
    expect(a.datapath.send(new Uint8Array(148).fill(1, 0, 1), { address: ofB, port: b.datapath.port })).toBe(
      true,
    );
    for (let i = 0; i < 200 && (await count('outer')) === before; i++) await sleep(5);
    expect((await count('outer')) - before).toBe(1);
  } finally {
    await a.remove();
    await b.remove();
  }
});
