// N9: full-size TCP and UDP where the underlay's MTU is lower than any node's interface says, with routers that say so and
// with routers that keep silent; and what was lowered under way. Over an underlay of IPv6, too, by `npm run test:long`.
//
//   a1 ── internet ── near ══ 1400, then 1296 ══ far ── b1

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Domain } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import type { Host } from '../lab/host.ts';
import type { Site } from '../lab/internet.ts';
import { iperf3 } from '../lab/iperf3.ts';
import type { Lab } from '../lab/lab.ts';
import { isLong } from '../lab/long.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';
import { Stream } from '../lab/stream.ts';

const FAMILIES = isLong ? (['v4', 'v6'] as const) : (['v4'] as const);
const INNER_MTU = 1420;
const PATIENCE = { timeout: 60_000, interval: 200 };

/** What both routers do with the errors that they owe to whoever sends too much. */
const SILENCE = `
  table inet silence {
    chain out {
      type filter hook output priority filter;
      icmp type destination-unreachable drop
      icmpv6 type packet-too-big drop
    }
  }`;

/** Lays the way to a node on the far side of two routers. */
const farSite = async (lab: Lab, core: Host): Promise<{ site: Site; routers: [near: Host, far: Host] }> => {
  const near = await lab.host('near', { forward: true });
  const far = await lab.host('far', { forward: true });
  const host = await lab.host('b1');
  await lab.cable(
    { host: core, interface: 'tonear', addresses: ['203.0.113.1/30', '2001:db8:a::1/64'] },
    { host: near, interface: 'wan', addresses: ['203.0.113.2/30', '2001:db8:a::2/64'] },
  );
  await lab.cable(
    { host: near, interface: 'narrow', addresses: ['203.0.113.5/30', '2001:db8:b::1/64'] },
    { host: far, interface: 'narrow', addresses: ['203.0.113.6/30', '2001:db8:b::2/64'] },
  );
  await lab.cable(
    { host: far, interface: 'lan', addresses: ['203.0.113.9/30', '2001:db8:c::1/64'] },
    { host, interface: 'eth0', addresses: ['203.0.113.10/30', '2001:db8:c::10/64'] },
  );
  await core.ip('route add 203.0.113.0/24 via 203.0.113.2', 'route add 2001:db8:c::/64 via 2001:db8:a::2');
  await near.ip(
    'route add 203.0.113.8/30 via 203.0.113.6',
    'route add 2001:db8:c::/64 via 2001:db8:b::2',
    'route add default via 203.0.113.1',
    'route add default via 2001:db8:a::1',
  );
  await far.ip('route add default via 203.0.113.5', 'route add default via 2001:db8:b::1');
  await host.ip('route add default via 203.0.113.9', 'route add default via 2001:db8:c::1');
  const address = '203.0.113.10';
  return {
    site: { host, address, address6: '2001:db8:c::10', publicAddress: address },
    routers: [near, far],
  };
};

/** Percent. A receiver that gets no CPU for a moment loses some: the best of a few goes counts, but each must run to its end. */
const lostOfUdp = async (from: Pod, to: Pod, address: string): Promise<number> => {
  let least = 100;
  for (let go = 0; go < 4 && least >= 5; go++) {
    const udp = { bitsPerSecond: 4e6, payload: 1350 };
    const { lostPercent } = await iperf3(from.host, to.host, address, { seconds: 1, udp });
    least = Math.min(least, lostPercent);
  }
  return least;
};

describe.each(FAMILIES)('over an underlay of IP%s', (outside) => {
  let domain: Domain;
  let routers: [Host, Host];
  let nodes: [Node, Node];
  let pods: [Pod, Pod];

  const narrow = async (mtu: number): Promise<void> => {
    for (const router of routers) await router.ip(`link set narrow mtu ${mtu}`);
  };

  beforeAll(async () => {
    domain = await Domain.start();
    await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
    const { site, routers: both } = await farSite(domain.lab, domain.internet.core);
    routers = both;
    await narrow(1400);
    const near = await domain.cloud.node('a1', 11);
    const start = async (name: string, at: Site): Promise<Node> => {
      const address = outside === 'v4' ? at.address : at.address6;
      return await domain.startNode(name, { site: at, options: ['--advertise', address ?? ''] });
    };
    nodes = [await start('a1', near), await start('b1', site)];
    pods = [await nodes[0].pod('pod-a', 'red'), await nodes[1].pod('pod-b', 'red')];
    await domain.meet('red');
    for (const address of [pods[1].v4('red'), pods[1].v6('red')])
      expect(await pods[0].reaches(address)).toBe(true);
  }, 180_000);

  afterAll(async () => await domain?.close());

  /** By which way, and whether full-size packets and larger ones of all kinds pass, both ways. */
  const everythingPasses = async (): Promise<void> => {
    const endpoint = (await nodes[0].peer('red', nodes[1]))?.endpoint ?? '';
    expect(endpoint.startsWith('[')).toBe(outside === 'v6');
    for (const [from, to] of [pods, [pods[1], pods[0]] as const]) {
      for (const address of [to.v4('red'), to.v6('red')]) {
        for (const size of [INNER_MTU - (address.includes(':') ? 48 : 28), 8000])
          await eventually(
            async () => expect(await ping(from.host, address, { size })).toMatchObject({ received: 1 }),
            PATIENCE,
          );
        const tcp = await iperf3(from.host, to.host, address, { seconds: 1 });
        expect(tcp.bytes, `TCP to ${address}`).toBeGreaterThan(1 << 20);
        expect(await lostOfUdp(from, to, address), `UDP to ${address}, percent lost`).toBeLessThan(5);
      }
    }
  };

  const carries = async (mtu: number): Promise<void> =>
    await eventually(async () => {
      const sizes = [await nodes[0].peer('red', nodes[1]), await nodes[1].peer('red', nodes[0])];
      for (const peer of sizes) {
        expect(peer?.pathMtu).toBeLessThanOrEqual(mtu);
        expect(peer?.pathMtu).toBeGreaterThan(mtu - 16);
      }
    }, PATIENCE);

  test('with routers that say what they carry', async () => {
    await carries(1400);
    await everythingPasses();
  }, 240_000);

  test('streams live on when it becomes lower and routers keep silent', async () => {
    const streams = [
      await Stream.open(pods[0], pods[1], pods[1].v4('red')),
      await Stream.open(pods[1], pods[0], pods[0].v6('red')),
    ];
    for (const router of routers) await router.nft(SILENCE);
    await narrow(1296);
    const before = streams.map(({ progress }) => progress.bytes);
    await eventually(async () => {
      streams.forEach(({ progress }, i) => {
        expect(progress.bytes).toBeGreaterThan((before[i] ?? 0) + 5_000_000);
        expect(progress.wrong).toBe(0);
      });
    }, PATIENCE);
    console.log(
      `longest silence: ${streams.map(({ progress }) => `${progress.longestSilenceMs} ms`).join(', ')}`,
    );
    for (const stream of streams) await stream.close();
    await carries(1296);
    await everythingPasses();
  }, 240_000);

  test('and when agents start into the silence', async () => {
    for (const node of nodes) await node.agent.stop();
    for (const node of nodes) await node.start();
    await everythingPasses();
    await carries(1296);
  }, 240_000);
});
