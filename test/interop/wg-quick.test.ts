// wg-quick over vl3-wg as people use it to send everything through a tunnel: AllowedIPs of 0.0.0.0/0 and ::/0, for which it
// marks the device's own packets and makes routes and rules of them (Table = auto). The other end is Debian's wireguard-go.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Host } from '../lab/host.ts';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import { WireguardGo, wireguardKeys } from '../lab/wireguard-go.ts';
import { makeHosts, OUTSIDE, PORTS } from './scene.ts';
import { until } from './suite-scene.ts';

const VL3_WG = fileURLToPath(new URL('../../cmd/vl3/vl3-wg', import.meta.url));
// It puts the system's programs first, an older Node among them.
const ENV = { WG_QUICK_USERSPACE_IMPLEMENTATION: VL3_WG, VL3_NODE: process.execPath };
/** Addresses that only the far end has, on no network of either. */
const FAR = ['203.0.113.77', '2001:db8:77::1'] as const;

const lab = Lab.create();
let near: Host;
let far: Host;

beforeAll(async () => {
  ({ vl3: near, stock: far } = await makeHosts(lab));
  await far.ip('link set lo up', ...FAR.map((address) => `address add ${address} dev lo`));
});
afterAll(async () => await lab.close());

const state = async (): Promise<string[]> =>
  await Promise.all(
    [
      ['ip', '-4', 'rule'],
      ['ip', '-6', 'rule'],
      ['ip', '-4', 'route', 'show', 'table', 'all'],
      ['nft', 'list', 'ruleset'],
    ].map((command) => near.run(command)),
  );

test.each(['v4', 'v6'] as const)(
  'a default route goes through the tunnel, the tunnel itself over IP%s does not, and down undoes it all',
  async (outside) => {
    const keys = { near: wireguardKeys(), far: wireguardKeys() };
    const name = `${lab.name}-${outside}`;
    const socket = `/var/run/wireguard/${name}.sock`;
    lab.ledger.record({ kind: 'file', path: socket });
    await using ends = new AsyncDisposableStack();
    const stock = await WireguardGo.start(lab, far, {
      keys: keys.far,
      listenPort: PORTS.stock,
      addresses: ['10.99.0.2/24', 'fd99::2/64'],
      peers: [{ publicKey: keys.near.publicKey, allowedIps: ['10.99.0.1/32', 'fd99::1/128'] }],
    });
    ends.defer(() => stock.stop());
    const address = OUTSIDE.stock[outside];
    const config = join(lab.scratch, `${name}.conf`);
    writeFileSync(
      config,
      `[Interface]
PrivateKey = ${keys.near.privateKey}
Address = 10.99.0.1/24, fd99::1/64
[Peer]
PublicKey = ${keys.far.publicKey}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = ${outside === 'v6' ? `[${address}]` : address}:${PORTS.stock}
PersistentKeepalive = 5
`,
      { mode: 0o600 },
    );
    const before = await state();
    await near.run(['wg-quick', 'up', config], { env: ENV });
    try {
      const mark = (await near.run(['wg', 'show', name, 'fwmark'])).trim();
      expect(mark).toMatch(/^0x[0-9a-f]+$/);
      expect(await near.run(['ip', '-4', 'rule'])).toMatch(`not from all fwmark ${mark}`);
      for (const target of FAR)
        await until(
          () => ping(near, target, { wait: 2 }),
          ({ received }) => received === 1,
          `${target} is not reached through the tunnel`,
        );
      // The far end itself is reached by what would be a loop, were its packets not marked.
      expect(await ping(near, '10.99.0.2', { count: 20, interval: 0.01, wait: 5 })).toMatchObject({
        received: 20,
      });
      await near.run(['wg', 'set', name, 'listen-port', '7777']);
      await until(
        () => ping(near, FAR[1], { wait: 2 }),
        ({ received }) => received === 1,
      );
    } finally {
      await near.run(['wg-quick', 'down', config], { env: ENV });
    }
    await until(
      async () => existsSync(socket),
      (is) => !is,
    );
    expect(await state()).toEqual(before);
  },
);
