// T6: a stock WireGuard (Debian's wireguard-go under wg-quick, behind a NAT as phones are) joins by the configuration that vl3
// printed, with an address of its own, and nothing more.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Host } from '../lab/host.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import { type Pod, reaches } from '../lab/pod.ts';
import { wireguardKeys } from '../lab/wireguard-go.ts';

const ENV = { WG_QUICK_USERSPACE_IMPLEMENTATION: 'wireguard-go' };

interface Peer {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly endpoint: string;
  readonly lastHandshakeAt: number;
  readonly rxBytes: number;
  readonly rxBytesPerSecond: number;
  readonly config: string;
  readonly privateKey?: string;
}

let domain: Domain;
let n1: Node;
let n2: Node;
let near: Pod;
let far: Pod;
let phone: Host;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  [n1, n2] = await Promise.all([domain.startNode('n1'), domain.startNode('n2')]);
  [near, far] = await Promise.all([n1.pod('near', 'red'), n2.pod('far', 'red')]);
  await domain.meet('red');
  const cloud = await domain.internet.natCloud('home', '203.0.113', '192.168.1');
  phone = (await cloud.node('phone', 7)).host;
}, 120_000);
afterAll(() => domain?.close());

const vl3 = (...args: string[]) => domain.command('peer', ...args, '--socket', n1.socket);
const made = async (...args: string[]): Promise<Peer> => {
  const { code, stdout, stderr } = await vl3('create', ...args, '--network', 'red', '-o', 'json');
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout);
};
const listed = async (): Promise<Peer[]> => JSON.parse((await vl3('list', '-o', 'json')).stdout);

/** Brings the configuration up on a host, under a name that no other host uses, until the test is over. */
const up = async (
  host: Host,
  { name, config }: Peer,
): Promise<AsyncDisposable & { readonly name: string }> => {
  const unique = `${domain.lab.name}-${name}`.slice(0, 15);
  const file = join(domain.lab.scratch, `${unique}.conf`);
  writeFileSync(file, config, { mode: 0o600 });
  domain.lab.ledger.record({ kind: 'file', path: `/var/run/wireguard/${unique}.sock` });
  await host.run(['wg-quick', 'up', file], { env: ENV });
  return {
    name: unique,
    [Symbol.asyncDispose]: async () => {
      await host.run(['wg-quick', 'down', file], { env: ENV });
    },
  };
};

const soon = (check: () => Promise<void>) => vi.waitFor(check, SOON);

describe('a phone', () => {
  test('reaches pods of its node and of others, and is reached, over both families; restarts cut nobody off for good', async () => {
    const peer = await made('phone');
    const [v4 = '', v6 = ''] = peer.addresses;
    await using _ = await up(phone, peer);
    for (const pod of [near, far]) {
      await soon(async () => expect(await reaches(phone, pod.v4('red'))).toBe(true));
      await soon(async () => expect(await reaches(phone, pod.v6('red'))).toBe(true));
      await soon(async () => expect(await pod.reaches(v4)).toBe(true));
      await soon(async () => expect(await pod.reaches(v6)).toBe(true));
    }
    const [seen] = await listed();
    expect(seen).toMatchObject({ name: 'phone', addresses: peer.addresses });
    expect(seen?.endpoint).toMatch(/^203\.0\.113\./);
    expect(seen?.lastHandshakeAt).toBeGreaterThan(Date.now() - 600_000);
    expect(seen?.rxBytes).toBeGreaterThan(0);
    await soon(async () => expect((await listed())[0]?.rxBytesPerSecond).toBeGreaterThan(0));
    const { stdout } = await vl3('list', '--network', 'red@test.example');
    expect(stdout).toMatch(/^phone +red .* \d+(\.\d)? \w*B\/s in, \d+(\.\d)? \w*B\/s out$/m);

    // Its node's agent knows again where it was heard: it is reached without having spoken.
    await n1.agent.stop('SIGKILL');
    await n1.start();
    await soon(async () => expect(await far.reaches(v4)).toBe(true));
  });

  test('has its address by name, as workloads have', async () => {
    const [peer] = await listed();
    const answer = await near.host.run(['dig', '+short', `@${await gatewayOf(n1)}`, 'phone.red.vl3', 'A']);
    expect(peer?.addresses).toContain(answer.trim());
  });

  test('asked for again with another key is refused, and the address stays its own', async () => {
    const [before] = await listed();
    const { code, stderr } = await vl3('create', 'phone', '--network', 'red');
    expect([code, stderr]).toEqual([1, expect.stringMatching(/another key: remove it first/)]);
    expect((await listed())[0]?.addresses).toEqual(before?.addresses);
  });

  test('removed, is cut off at once, and its address goes to nobody for a while', async () => {
    const [before] = await listed();
    expect((await vl3('remove', 'phone', '--network', 'red')).code).toBe(0);
    expect(await listed()).toEqual([]);
    const peer = await made('phone');
    expect(peer.addresses).not.toEqual(before?.addresses);
    await vl3('remove', 'phone', '--network', 'red');
    const again = await vl3('remove', 'phone', '--network', 'red');
    expect([again.code, again.stdout]).toEqual([0, expect.stringMatching(/^there was no peer phone on red/)]);
  });

  test("on a partner's network is refused, with who can make it", async () => {
    const { code, stderr } = await vl3('create', 'phone', '--network', 'red@partner.example');
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /red@partner\.example is a network of partner\.example.*on a node of the network's own domain/,
      ),
    ]);
  });
});

const gatewayOf = async (node: Node): Promise<string> => (await node.status()).networks[0]?.gateways[0] ?? '';

test('nothing passes from a source that is not its own, nor to what is not in the network', async () => {
  const peer = await made('thief', '--keepalive', '1');
  await using link = await up(phone, peer);
  await soon(async () => expect(await reaches(phone, far.v4('red'))).toBe(true));
  const stolen = near.v4('red');
  await phone.ip(`address add ${stolen}/32 dev ${link.name}`);
  expect((await ping(phone, far.v4('red'), { count: 3, wait: 1, source: stolen })).received).toBe(0);
  await phone.ip(`address del ${stolen}/32 dev ${link.name}`);
  // The node itself, by its underlay address, and the registry are not behind the tunnel.
  await phone.run([
    'wg',
    'set',
    link.name,
    'peer',
    (await n1.status()).networks[0]?.publicKey ?? '',
    'allowed-ips',
    '0.0.0.0/0',
  ]);
  await phone.ip(`route add 172.31.0.9/32 dev ${link.name}`);
  expect((await ping(phone, '172.31.0.9', { count: 2, wait: 1 })).received).toBe(0);
  await vl3('remove', 'thief', '--network', 'red');
});

test('a key of its own is taken, once, and nobody is asked for the private one', async () => {
  const keys = wireguardKeys();
  const peer = await made('laptop', '--public-key', keys.publicKey);
  expect(peer.privateKey).toBeUndefined();
  expect(peer.config).toContain('# PrivateKey = ');
  const { stderr } = await vl3('create', 'other', '--network', 'red', '--public-key', keys.publicKey);
  expect(stderr).toMatch(/this key is on red already/);
  const nodes = (await n2.status()).networks[0]?.publicKey ?? '';
  expect((await vl3('create', 'node', '--network', 'red', '--public-key', nodes)).stderr).toMatch(
    /on red already/,
  );
  for (const key of ['AAAA', `${'A'.repeat(43)}=`, 'not a key'])
    expect((await vl3('create', 'bad', '--network', 'red', '--public-key', key)).code).toBe(1);
  await vl3('remove', 'laptop', '--network', 'red');
  expect(await listed()).toEqual([]);
});

test('the configuration is shown as a QR code when that is asked for', async () => {
  const { stdout, stderr } = await vl3(
    'create',
    'tablet',
    '--network',
    'red',
    '--qr',
    '--endpoint',
    'vpn.example:4500',
  );
  expect(stdout).toMatch(/^\[Interface\]$/m);
  expect(stdout).toMatch(/^Endpoint = vpn\.example:4500$/m);
  expect(stderr.split('\n').length).toBeGreaterThan(20);
  expect(stderr).toMatch(/[▀▄█]/);
  await vl3('remove', 'tablet', '--network', 'red');
});
