// vl3 and Debian's wireguard-go as each other's peer: over IPv4 and IPv6, with and without a preshared key, whoever
// speaks first, every packet size, both families inside.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { iperf3 } from '../lab/iperf3.ts';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import { type Family, type Hosts, INSIDE, makeHosts, other, Pair, presharedKey, type Side } from './scene.ts';

const lab = Lab.create();
let hosts: Hosts;

beforeAll(async () => {
  hosts = await makeHosts(lab);
});
afterAll(async () => await lab.close());

const FAMILIES = ['v4', 'v6'] as const;
const SIDES = ['vl3', 'stock'] as const;

const cases = FAMILIES.flatMap((outside) =>
  (['a', 'no'] as const).flatMap((preshared) =>
    SIDES.map((initiator): [Family, 'a' | 'no', Side] => [outside, preshared, initiator]),
  ),
);

describe.each(cases)(
  'over IP%s with %s preshared key, %s speaking first',
  (outside, preshared, initiator) => {
    let pair: Pair;

    beforeAll(async () => {
      pair = await Pair.start(lab, hosts, {
        outside,
        initiators: [initiator],
        ...(preshared === 'a' ? { presharedKey: presharedKey() } : {}),
      });
    });
    afterAll(async () => await pair[Symbol.asyncDispose]());

    test('the first ping waits for the handshake and arrives', async () => {
      const responder = other(initiator);
      expect(await ping(hosts[initiator], INSIDE[responder].v4, { wait: 5 })).toMatchObject({ received: 1 });
      const { keypair, counts } = await pair.seenByVl3();
      expect(keypair).toMatchObject({ isInitiator: initiator === 'vl3' });
      expect(Object.keys(counts).filter((name) => name.startsWith('handshake dropped'))).toEqual([]);
      expect((await pair.seenByStock()).lastHandshake).toBeGreaterThan(0);
    });

    test.each(SIDES)('pings from %s of every size are answered, in both families', async (from) => {
      for (const family of FAMILIES) {
        const address = INSIDE[other(from)][family];
        // Around the sizes where padding and the MTU of 1420 matter, and far past it, in fragments.
        for (const size of [0, 1, 3, 4, 15, 16, 1371, 1372, 1373, 1391, 1392, 1393, 9000])
          expect(await ping(hosts[from], address, { size })).toMatchObject({ received: 1 });
      }
    });

    // A stream takes a second, and neither who spoke first nor the preshared key matter to it.
    if (initiator === 'vl3' && preshared === 'a')
      test.each(SIDES)('a TCP stream from %s arrives', async (from) => {
        const to = other(from);
        const address = INSIDE[to][outside === 'v4' ? 'v6' : 'v4'];
        const { bytes } = await iperf3(hosts[from], hosts[to], address, { seconds: 1 });
        expect(bytes).toBeGreaterThan(1e6);
      });

    test('nothing was lost to a check', async () => {
      const { counts } = await pair.seenByVl3();
      const dropped = Object.entries(counts).filter(
        // The interface's own multicasts, which are for no peer.
        ([name, count]) => name.includes('dropped') && name !== 'egress dropped:no-peer' && count > 0,
      );
      expect(dropped).toEqual([]);
    });
  },
);
