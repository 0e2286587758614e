// N1 and N3: pods of one network reach each other, whatever the size of a packet; pods of two networks never do, and
// a pod on both is no bridge.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Capture } from '../lab/capture.ts';
import { Domain } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { type PingOptions, ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';

const NETWORKS = ['red', 'green'] as const;
type Network = (typeof NETWORKS)[number];

let domain: Domain;
let a1: Node;
let a2: Node;
let red1: Pod;
let red2: Pod;
let both1: Pod;
let both2: Pod;
let green1: Pod;
let green2: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16', '--pool-v6', 'fd00:70::/48');
  [a1, a2] = await Promise.all([domain.startNode('a1'), domain.startNode('a2')]);
  [red1, both1, green1] = [
    await a1.pod('red1', 'red'),
    await a1.pod('both1', 'red', 'green'),
    await a1.pod('green1', 'green'),
  ];
  [red2, both2, green2] = [
    await a2.pod('red2', 'red'),
    await a2.pod('both2', 'red', 'green'),
    await a2.pod('green2', 'green'),
  ];
  for (const network of NETWORKS) await domain.meet(network);
}, 120_000);

afterAll(() => domain?.close());

const members = (network: Network): Pod[] =>
  network === 'red' ? [red1, both1, red2, both2] : [green1, both1, green2, both2];

const gateways = async (network: Network): Promise<string[]> => {
  const all = await Promise.all([a1.status(), a2.status()]);
  return all.flatMap(({ networks }) => networks.find(({ name }) => name === network)?.gateways ?? []);
};

/** Every member pings every address in turn; answers those that stayed silent. */
const silentPairs = async (
  network: Network,
  addresses: string[],
  options: PingOptions,
): Promise<string[]> => {
  const silent: string[] = [];
  await Promise.all(
    members(network).map(async (from) => {
      for (const address of addresses) {
        const { received } = await ping(from.host, address, { patience: 40, ...options });
        if (received === 0) silent.push(`${from.name} to ${address}`);
      }
    }),
  );
  return silent;
};

describe.each(NETWORKS)('on %s', (network) => {
  const addresses = () => members(network).flatMap((pod) => [pod.v4(network), pod.v6(network)]);

  test('every pod reaches every pod, itself among them, by v4 and v6', async () => {
    expect(addresses()).toHaveLength(8);
    expect(await silentPairs(network, addresses(), {})).toEqual([]);
  });

  test('every pod reaches the gateway of each node', async () => {
    const found = await gateways(network);
    expect(new Set(found).size).toBe(4);
    expect(await silentPairs(network, found, {})).toEqual([]);
  });

  test.each([0, 1, 7])('packets of %i bytes arrive', async (size) => {
    expect(await silentPairs(network, addresses(), { size })).toEqual([]);
  });

  test.each([1393, 4000, 65_000])('packets of %i bytes arrive in fragments', async (size) => {
    expect(await silentPairs(network, addresses(), { size })).toEqual([]);
  });
});

test('a packet that fills the MTU arrives whole, one byte more is refused with the MTU', async () => {
  const whole = (to: string, size: number, patience: string) =>
    red1.host.tryRun(['ping', '-n', '-c', '1', '-w', patience, '-M', 'do', '-s', `${size}`, to]);
  expect((await whole(red2.v4('red'), 1420 - 28, '20')).code).toBe(0);
  expect((await whole(red2.v6('red'), 1420 - 48, '20')).code).toBe(0);
  const { code, stdout, stderr } = await whole(red2.v4('red'), 1420 - 27, '1');
  expect(code).not.toBe(0);
  expect(stdout + stderr).toMatch(/mtu ?= ?1420/);
});

test("a pod's default route is not vl3's", async () => {
  for (const family of ['-4', '-6'])
    expect(await both1.host.run(['ip', family, 'route', 'show', 'default'])).toBe('');
});

/**
 * Records what arrives at a pod while `attempt` runs, and again while `witness`, who may, pings it: had that not been
 * seen, the silence would mean nothing. What arrives are the packets `attempt` was able to bring in, as text.
 */
const arrivals = async (pod: Pod, network: Network, witness: Pod, attempt: () => Promise<void>) => {
  const watch = async (work: () => Promise<void>) => {
    const capture = await Capture.start(pod.host, network, [
      'icmp or (icmp6 and ip6[40] >= 128 and ip6[40] <= 129)',
    ]);
    await work();
    return await capture.stop();
  };
  const arrived = await watch(attempt);
  const control = await watch(async () => {
    for (const to of [pod.v4(network), pod.v6(network)]) expect(await witness.reaches(to)).toBe(true);
  });
  expect(control.length).toBeGreaterThanOrEqual(4);
  return arrived;
};

const tryPing = async (from: Pod, to: string, options: PingOptions = {}): Promise<void> => {
  const result = await ping(from.host, to, { count: 2, wait: 1, ...options });
  expect(result, `${from.name} reached ${to}`).toMatchObject({ received: 0 });
};

describe('a red-only pod never reaches a green-only one', () => {
  /** Sends what a pod has for green into its red interface, whatever it has been told about routes. */
  const withGreenRoutes = async (pod: Pod, via: (family: 4 | 6) => string, work: () => Promise<void>) => {
    const routes = [`10.70.0.0/16 ${via(4)}`, `fd00:70::/48 ${via(6)}`];
    await pod.host.ip(...routes.map((route) => `route replace ${route} onlink`));
    try {
      await work();
    } finally {
      await pod.host.ip(...routes.map((route) => `route delete ${route}`));
    }
  };
  const viaGateway = (family: 4 | 6) =>
    family === 4 ? `via ${gateway4(red1)} dev red` : 'via fe80::1 dev red';
  const gateway4 = (pod: Pod): string => pod.v4('red').replace(/\d+$/, '1');

  test.each(['green1', 'green2'] as const)('as it is: it has no route to %s', async (name) => {
    const green = name === 'green1' ? green1 : green2;
    const arrived = await arrivals(green, 'green', both1, async () => {
      await tryPing(red1, green.v4('green'));
      await tryPing(red1, green.v6('green'));
    });
    expect(arrived).toEqual([]);
  });

  test.each(['green1', 'green2'] as const)('with a route to %s through its gateway', async (name) => {
    const green = name === 'green1' ? green1 : green2;
    const arrived = await arrivals(green, 'green', both1, () =>
      withGreenRoutes(red1, viaGateway, async () => {
        await tryPing(red1, green.v4('green'));
        await tryPing(red1, green.v6('green'));
      }),
    );
    expect(arrived).toEqual([]);
  });

  test("with a green pod's address as its source", async () => {
    const sources = [both1.v4('green'), both1.v6('green')] as const;
    const arrived = await arrivals(green2, 'green', both1, () =>
      withAddresses(red1, sources, () =>
        withGreenRoutes(red1, viaGateway, async () => {
          await tryPing(red1, green2.v4('green'), { source: sources[0] });
          await tryPing(red1, green2.v6('green'), { source: sources[1] });
        }),
      ),
    );
    expect(arrived).toEqual([]);
  });

  test('by routing through a pod on both that forwards packets', async () => {
    await both1.host.set({
      'ipv4/ip_forward': 1,
      'ipv6/conf/all/forwarding': 1,
      'ipv4/conf/all/rp_filter': 0,
      'ipv4/conf/red/rp_filter': 0,
      'ipv4/conf/green/rp_filter': 0,
    });
    const viaBoth = (family: 4 | 6) => `via ${family === 4 ? both1.v4('red') : both1.v6('red')} dev red`;
    // The only link there is leads to the router: whatever the next hop's address, it is the one that gets the frame.
    const mac = /lladdr ([0-9a-f:]+)/.exec(
      await red1.host.run(['ip', 'neighbour', 'show', gateway4(red1), 'dev', 'red']),
    )?.[1];
    await red1.host.ip(
      `neighbour replace ${both1.v4('red')} dev red lladdr ${mac}`,
      `neighbour replace ${both1.v6('red')} dev red lladdr ${mac}`,
    );
    const arrived = await arrivals(green2, 'green', both2, async () => {
      await withGreenRoutes(red1, viaBoth, async () => {
        await tryPing(red1, green2.v4('green'));
        await tryPing(red1, green2.v6('green'));
      });
      // And what if it did get as far as that pod? It passes on packets with a red source.
      const sources = [red1.v4('red'), red1.v6('red')] as const;
      await withAddresses(both1, sources, async () => {
        await tryPing(both1, green2.v4('green'), { source: sources[0] });
        await tryPing(both1, green2.v6('green'), { source: sources[1] });
      });
    });
    expect(arrived).toEqual([]);
  });
});

test("a pod cannot send from another pod's address on its own network", async () => {
  const sources = [both1.v4('red'), both2.v4('red'), both1.v6('red')] as const;
  const arrived = await arrivals(red2, 'red', both1, () =>
    withAddresses(red1, sources, async () => {
      await tryPing(red1, red2.v4('red'), { source: sources[0] });
      await tryPing(red1, red2.v4('red'), { source: sources[1] });
      await tryPing(red1, red2.v6('red'), { source: sources[2] });
    }),
  );
  expect(arrived).toEqual([]);
});

/** Runs `work` while the pod, which is root in its own namespace, holds addresses nobody gave it. */
async function withAddresses(
  pod: Pod,
  addresses: readonly string[],
  work: () => Promise<void>,
): Promise<void> {
  const each = (verb: string) =>
    addresses.map((one) => `address ${verb} ${one}/${one.includes(':') ? '128' : '32'} dev lo`);
  await pod.host.ip(...each('add'));
  try {
    await work();
  } finally {
    await pod.host.ip(...each('delete'));
  }
}
