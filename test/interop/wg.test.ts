// `vl3 device` in the hands of WireGuard's own tools: wg and wg-quick drive it, and a stock device talks to it while they do.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Host, Result } from '../lab/host.ts';
import { Lab } from '../lab/lab.ts';
import { ping } from '../lab/ping.ts';
import { vl3 as program } from '../lab/program.ts';
import { type KeyPair, WireguardGo, wireguardKeys } from '../lab/wireguard-go.ts';
import { INSIDE, makeHosts, OUTSIDE, PORTS, until } from './scene.ts';

const VL3_WG = fileURLToPath(new URL('../../cmd/vl3/vl3-wg', import.meta.url));

const lab = Lab.create();
let vl3: Host;
let stock: Host;
let made = 0;
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  ({ vl3, stock } = await makeHosts(lab));
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(async () => await lab.close());

const socketOf = (name: string): string => `/var/run/wireguard/${name}.sock`;
const interfaceIsThere = async (name: string): Promise<boolean> =>
  (await vl3.tryRun(['ip', 'link', 'show', name])).code === 0;

/** Starts a device in the background, as vl3-wg does for wg-quick; it is up when this resolves. */
const startDevice = async (): Promise<string> => {
  made += 1;
  const name = `${lab.name}-d${made}`;
  lab.ledger.record({ kind: 'file', path: socketOf(name) });
  await vl3.run(program('device', name));
  expect(existsSync(socketOf(name))).toBe(true);
  expect(await interfaceIsThere(name)).toBe(true);
  ends.push(async () => {
    await lab.tryRun(['rm', '-f', socketOf(name)]);
    await until(
      () => interfaceIsThere(name),
      (there) => !there,
    );
  });
  return name;
};

const file = (name: string, text: string): string => {
  const path = join(lab.scratch, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
};
const wg = async (...args: string[]): Promise<string> => await lab.run(['wg', ...args]);
const tryWg = async (...args: string[]): Promise<Result> => await lab.tryRun(['wg', ...args]);

/** A device and a stock one that know each other, both up. */
const pair = async (): Promise<{
  name: string;
  keys: { vl3: KeyPair; stock: KeyPair };
  far: WireguardGo;
}> => {
  const keys = { vl3: wireguardKeys(), stock: wireguardKeys() };
  const name = await startDevice();
  const far = await WireguardGo.start(lab, stock, {
    keys: keys.stock,
    listenPort: PORTS.stock,
    addresses: [`${INSIDE.stock.v4}/32`, `${INSIDE.stock.v6}/128`],
    peers: [{ publicKey: keys.vl3.publicKey, allowedIps: [`${INSIDE.vl3.v4}/32`, `${INSIDE.vl3.v6}/128`] }],
  });
  ends.push(() => far.stop());
  const config = file(
    `${name}.conf`,
    `[Interface]
PrivateKey = ${keys.vl3.privateKey}
ListenPort = ${PORTS.vl3}
[Peer]
PublicKey = ${keys.stock.publicKey}
AllowedIPs = ${INSIDE.stock.v4}/32, ${INSIDE.stock.v6}/128
Endpoint = ${OUTSIDE.stock.v4}:${PORTS.stock}
`,
  );
  await wg('setconf', name, config);
  await vl3.ip(
    `address add ${INSIDE.vl3.v4}/32 dev ${name}`,
    `address add ${INSIDE.vl3.v6}/128 dev ${name} nodad`,
    `link set ${name} mtu 1420 up`,
    `route replace ${INSIDE.stock.v4}/32 dev ${name}`,
    `route replace ${INSIDE.stock.v6}/128 dev ${name}`,
  );
  return { name, keys, far };
};

test('wg configures it, a stock device talks to it, and wg shows how they fare', async () => {
  const { name, keys } = await pair();
  await until(
    () => ping(vl3, INSIDE.stock.v4, { wait: 1 }),
    ({ received }) => received === 1,
    20,
  );
  expect(await ping(vl3, INSIDE.stock.v6)).toMatchObject({ received: 1 });
  const [own, peer] = (await wg('show', name, 'dump'))
    .trim()
    .split('\n')
    .map((line) => line.split('\t'));
  expect(own).toEqual([keys.vl3.privateKey, keys.vl3.publicKey, String(PORTS.vl3), 'off']);
  const [publicKey, presharedKey, endpoint, allowedIps, handshake, rx, tx, keepalive] = peer ?? [];
  expect([publicKey, presharedKey, keepalive]).toEqual([keys.stock.publicKey, '(none)', 'off']);
  expect(endpoint).toBe(`${OUTSIDE.stock.v4}:${PORTS.stock}`);
  expect(allowedIps).toBe(`${INSIDE.stock.v4}/32,${INSIDE.stock.v6}/128`);
  expect(Math.abs(Number(handshake) - Date.now() / 1000)).toBeLessThan(120);
  expect(Number(rx)).toBeGreaterThan(0);
  expect(Number(tx)).toBeGreaterThan(0);
});

test('port, mark and key change under traffic, and the traffic goes on', async () => {
  const { name, far } = await pair();
  const reaches = () =>
    until(
      () => ping(vl3, INSIDE.stock.v4, { wait: 1 }),
      ({ received }) => received === 1,
      20,
    );
  await reaches();
  const pings = vl3.start(['ping', '-n', '-i', '0.01', INSIDE.stock.v4]);
  const answered = (): number => [...pings.output().matchAll(/icmp_seq=/g)].length;
  const goesOn = async (): Promise<void> => {
    const before = answered();
    await until(
      async () => answered(),
      (now) => now >= before + 30,
    );
  };
  await goesOn();
  for (const port of [7001, 7002, PORTS.vl3]) {
    await wg('set', name, 'listen-port', String(port), 'fwmark', String(port));
    expect((await wg('show', name, 'listen-port')).trim()).toBe(String(port));
    expect(Number(await wg('show', name, 'fwmark'))).toBe(port);
    await goesOn();
  }
  await pings.stop('SIGINT');
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(pings.output()) ?? [];
  // What is under way to the old port at a change is lost: more of it when the machine is busy.
  expect(Number(received) / Number(sent)).toBeGreaterThan(0.9);
  const [, peer = []] = await far.dump();
  expect(peer[2]).toBe(`${OUTSIDE.vl3.v4}:${PORTS.vl3}`);

  const other = wireguardKeys();
  await wg('set', name, 'private-key', file(`${name}.key`, other.privateKey));
  expect((await wg('show', name, 'public-key')).trim()).toBe(other.publicKey);
  expect(await ping(vl3, INSIDE.stock.v4, { wait: 1 })).toMatchObject({ received: 0 });
  await lab.run([
    'wg',
    'set',
    far.interface,
    'peer',
    other.publicKey,
    'allowed-ips',
    `${INSIDE.vl3.v4}/32,${INSIDE.vl3.v6}/128`,
  ]);
  await reaches();
});

test('a port that is taken is refused, and nothing of that change is made', async () => {
  const name = await startDevice();
  await wg('set', name, 'listen-port', '7100');
  const taken = await startDevice();
  await wg('set', taken, 'listen-port', '7101');
  const { code, stderr } = await tryWg('set', name, 'listen-port', '7101', 'peer', wireguardKeys().publicKey);
  expect([code, stderr]).toEqual([1, expect.stringContaining('Address already in use')]);
  expect((await wg('show', name, 'listen-port')).trim()).toBe('7100');
  expect(await wg('show', name, 'peers')).toBe('');
});

test('it holds thirty peers without a key of its own, and none that is itself', async () => {
  const name = await startDevice();
  const peers = Array.from({ length: 30 }, () => wireguardKeys());
  await wg('set', name, ...peers.flatMap(({ publicKey }) => ['peer', publicKey]));
  expect((await wg('show', name, 'peers')).trim().split('\n').sort()).toEqual(
    peers.map(({ publicKey }) => publicKey).sort(),
  );
  const [first] = peers;
  if (first === undefined) throw new Error('no peers');
  await wg('set', name, 'private-key', file(`${name}.own`, first.privateKey));
  expect((await wg('show', name, 'peers')).trim().split('\n')).toHaveLength(29);
  await wg('set', name, 'peer', first.publicKey);
  expect((await wg('show', name, 'peers')).trim().split('\n')).toHaveLength(29);
});

test('thousands of allowed IPs come in one change, move to another peer, and go', async () => {
  const name = await startDevice();
  const [one, other] = [wireguardKeys().publicKey, wireguardKeys().publicKey];
  const allowed = Array.from({ length: 5000 }, (_, i) => `10.${(i >> 8) & 255}.${i & 255}.0/24`);
  const config = (key: string): string =>
    file(`${name}.conf`, `[Peer]\nPublicKey = ${key}\nAllowedIPs = ${allowed.join(',')}\n`);
  const held = async (): Promise<Record<string, number>> => {
    const lines = (await wg('show', name, 'allowed-ips')).trim().split('\n');
    return Object.fromEntries(
      lines.map((line) => {
        const [key = '', prefixes = ''] = line.split('\t');
        return [key, prefixes === '(none)' ? 0 : prefixes.split(' ').length];
      }),
    );
  };
  await wg('addconf', name, config(one));
  expect(await held()).toEqual({ [one]: 5000 });
  await wg('addconf', name, config(other));
  expect(await held()).toEqual({ [one]: 0, [other]: 5000 });
  await wg('syncconf', name, file(`${name}.conf`, `[Peer]\nPublicKey = ${one}\nAllowedIPs = fd00::/8\n`));
  expect(await held()).toEqual({ [one]: 1 });
});

test('wg-quick brings it up and down', async () => {
  made += 1;
  const name = `${lab.name}-q${made}`;
  lab.ledger.record({ kind: 'file', path: socketOf(name) });
  const keys = wireguardKeys();
  const config = file(
    `${name}.conf`,
    `[Interface]\nPrivateKey = ${keys.privateKey}\nAddress = 10.77.0.1/24\nMTU = 1400\n` +
      `[Peer]\nPublicKey = ${wireguardKeys().publicKey}\nAllowedIPs = 10.77.0.0/24, 10.78.0.0/16\n`,
  );
  // It puts the system's programs first, an older Node among them.
  const env = { WG_QUICK_USERSPACE_IMPLEMENTATION: VL3_WG, VL3_NODE: process.execPath };
  await vl3.run(['wg-quick', 'up', config], { env });
  expect(await vl3.run(['ip', '-4', 'route', 'show', 'dev', name])).toMatch(/10\.78\.0\.0\/16/);
  expect(await vl3.run(['ip', 'link', 'show', name])).toMatch(/mtu 1400/);
  await vl3.run(['wg-quick', 'down', config], { env });
  expect(await interfaceIsThere(name)).toBe(false);
  await until(
    async () => existsSync(socketOf(name)),
    (there) => !there,
  );
});

test('it ends when its interface or its socket is deleted, and the name is free at once', async () => {
  made += 1;
  const name = `${lab.name}-e${made}`;
  lab.ledger.record({ kind: 'file', path: socketOf(name) });
  for (const command of [
    ['ip', 'link', 'delete', name],
    ['rm', socketOf(name)],
  ]) {
    await vl3.run([VL3_WG, name]);
    await vl3.run(command);
    await until(
      async () => existsSync(socketOf(name)) || (await interfaceIsThere(name)),
      (there) => !there,
    );
  }
});

test('a name that is in use is refused with a reason, and a socket left by a crash is none', async () => {
  const name = await startDevice();
  const second = await vl3.tryRun([VL3_WG, name]);
  expect([second.code, second.stderr]).toEqual([1, expect.stringMatching(/in use|is up/)]);
  expect((await wg('show', name, 'listen-port')).trim()).toMatch(/^\d+$/);

  made += 1;
  const crashed = `${lab.name}-c${made}`;
  lab.ledger.record({ kind: 'file', path: socketOf(crashed) });
  const device = vl3.start([VL3_WG, '--foreground', crashed]);
  await until(
    async () => existsSync(socketOf(crashed)),
    (there) => there,
  );
  await device.stop('SIGKILL');
  await until(
    () => interfaceIsThere(crashed),
    (there) => !there,
  );
  expect(existsSync(socketOf(crashed))).toBe(true);
  await vl3.run([VL3_WG, crashed]);
  expect(await wg('show', crashed, 'peers')).toBe('');
  await lab.run(['rm', socketOf(crashed)]);
  await until(
    () => interfaceIsThere(crashed),
    (there) => !there,
  );
});
