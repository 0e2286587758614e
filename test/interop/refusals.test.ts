// What vl3 refuses of Debian's wireguard-go: a handshake under another preshared key, and packets from inside addresses
// that are not its own.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import { type Hosts, INSIDE, makeHosts, Pair, presharedKey, until } from './scene.ts';

const lab = Lab.create();
let hosts: Hosts;

beforeAll(async () => {
  hosts = await makeHosts(lab);
});
afterAll(async () => await lab.close());

test.each(['vl3', 'stock'] as const)(
  'with another preshared key a handshake begun by %s does not complete, until it has the right one',
  async (initiator) => {
    const right = presharedKey();
    const keys = { vl3: presharedKey(), stock: right };
    await using pair = await Pair.start(lab, hosts, { initiators: [initiator], presharedKey: keys });
    const addresses = { vl3: INSIDE.stock.v6, stock: INSIDE.vl3.v6 };
    const ask = () => ping(hosts[initiator], addresses[initiator], { wait: 1 });
    expect(await ask()).toMatchObject({ received: 0 });
    const refused = await pair.seenByVl3();
    expect(refused).toMatchObject({ rxBytes: 0, txBytes: 0 });
    expect(refused.keypair).toBeUndefined();
    expect(refused.lastHandshake).toBeUndefined();
    expect((await pair.seenByStock()).lastHandshake).toBe(0);
    if (initiator === 'vl3') expect(refused.counts['handshake dropped:bad-response']).toBe(1);
    else expect(refused.counts['ingress handshakes']).toBe(1);

    await pair.changeVl3Peer({ presharedKey: right });
    await until(ask, ({ received }) => received === 1, 20);
    // The workers carry packets as soon as a key is confirmed; the device hears of it a moment later.
    const seen = await until(
      () => pair.seenByVl3(),
      ({ keypair }) => keypair !== undefined,
      20,
    );
    expect(seen.keypair).toMatchObject({ isInitiator: initiator === 'vl3' });
  },
);

test.each([
  ['IPv4', 32, '10.9.9.9', INSIDE.stock.v4, INSIDE.vl3.v4],
  ['IPv6', 128, 'fd99::9', INSIDE.stock.v6, INSIDE.vl3.v6],
])(
  'what the stock peer sends from an %s source that is not its own is dropped and counted',
  async (...args) => {
    const [, length, foreign, own, address] = args;
    await using pair = await Pair.start(lab, hosts);
    expect(await ping(hosts.stock, address, { wait: 5 })).toMatchObject({ received: 1 });
    await hosts.stock.ip(
      `address add ${foreign}/${length} dev ${pair.stock.interface}${length === 128 ? ' nodad' : ''}`,
    );
    // vl3 would even know the way back.
    await hosts.vl3.ip(`route replace ${foreign}/${length} dev ${pair.vl3.interface}`);
    const { rxBytes, counts } = await pair.seenByVl3();
    expect(counts['ingress dropped:wrong-source']).toBe(0);
    const spoofed = await ping(hosts.stock, address, { count: 5, interval: 0.01, wait: 1, source: foreign });
    expect(spoofed).toMatchObject({ sent: 5, received: 0 });
    const after = await pair.seenByVl3();
    expect(after.rxBytes).toBeGreaterThan(rxBytes);
    expect(after.counts['ingress dropped:wrong-source']).toBe(5);
    expect(await ping(hosts.stock, address, { source: own })).toMatchObject({ received: 1 });
  },
);
