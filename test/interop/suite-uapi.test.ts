// The control socket in rough hands: many allowed IPs, lines as long as they may be and longer, questions while things change,
// and clients that go away, stop half way, or never read. Of vl3; what wireguard-go does is not ours to judge.

import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { wireguardKeys } from '../lab/wireguard-go.ts';
import { End } from './suite-end.ts';
import { until } from './suite-scene.ts';
import { ask as askAt, type Connection, get, open as openAt } from './uapi-client.ts';

const lab = Lab.create();
let end: End;
let made = 0;

beforeEach(async () => {
  made += 1;
  end = await End.start(lab, await lab.host(`u${made}`), 'vl3');
});
afterEach(async () => {
  // Whatever was done to it, it goes on, has nothing to complain of and ends when told to.
  expect(await end.peers()).toBeInstanceOf(Array);
  expect(await end.stop()).toBe('');
});
afterAll(async () => await lab.close());

const hex = (base64: string): string => Buffer.from(base64, 'base64').toString('hex');
const someKey = (): string => hex(wireguardKeys().publicKey);

const open = (): Promise<Connection> => openAt(end.socket);
const ask = (request: string, isLast = false): Promise<string> => askAt(end.socket, request, isLast);

test('thirty peers without a key, then with one', async () => {
  const keys = Array.from({ length: 30 }, () => wireguardKeys().publicKey);
  await end.set(...keys.flatMap((key) => ['peer', key]));
  expect((await end.peers()).map(({ publicKey }) => publicKey).sort()).toEqual(keys.sort());
  await end.set('private-key', end.file(end.keys.privateKey));
  expect(await end.peers()).toHaveLength(30);
  expect(await end.show('public-key')).toBe(end.keys.publicKey);
});

test('twenty thousand allowed IPs in one request come out as they went in', async () => {
  const key = someKey();
  const prefixes = [
    ...Array.from({ length: 10_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`),
    ...Array.from({ length: 10_000 }, (_, i) => `fd00:${(i + 1).toString(16)}::/32`),
  ];
  const lines = prefixes.map((prefix) => `allowed_ip=${prefix}\n`).join('');
  expect(await ask(`set=1\npublic_key=${key}\nreplace_allowed_ips=true\n${lines}\n`)).toBe('errno=0\n\n');
  const held = (await end.show('allowed-ips')).split('\t')[1]?.split(' ') ?? [];
  expect(held.sort()).toEqual(prefixes.sort());
  // Also for a client that has closed its side by then; and several questions on one connection.
  const whole = await ask('get=1\n\n', true);
  expect(whole.split('\n').filter((line) => line.startsWith('allowed_ip='))).toHaveLength(prefixes.length);
  expect(await ask('get=1\n\nget=1\n\n', true)).toBe(whole + whole);
  // The configuration it gives is one that it takes.
  const config = await end.wg('showconf');
  await end.setconf(config);
  expect(await end.wg('showconf')).toBe(config);
});

test('many peers with some allowed IPs each', async () => {
  const peers = Array.from({ length: 500 }, (_, i) => {
    const prefixes = Array.from({ length: i % 20 }, (_, n) => `allowed_ip=10.${i & 255}.${n}.${i >> 8}/32\n`);
    return { key: someKey(), lines: prefixes.join('') };
  });
  const body = peers.map(({ key, lines }) => `public_key=${key}\n${lines}`).join('');
  expect(await ask(`set=1\nreplace_peers=true\n${body}\n`)).toBe('errno=0\n\n');
  expect(await end.peers()).toHaveLength(500);
  const counts = (await end.show('allowed-ips'))
    .split('\n')
    .map((line) => line.split('\t')[1] ?? '')
    .map((held) => (held === '(none)' ? 0 : held.split(' ').length));
  expect(counts.reduce((a, b) => a + b)).toBe(500 * 9.5);
});

test('the longest line that can be meant is taken, a longer one is refused, and one without end is cut off', async () => {
  const key = someKey();
  const long = '0000:0000:0000:0000:0000:0000:0000:0001/128';
  expect(
    await ask(`set=1\npublic_key=${key}\nallowed_ip=${long}\nendpoint=[${long.slice(0, 39)}]:65535\n\n`),
  ).toBe('errno=0\n\n');
  expect(await ask(`set=1\npublic_key=${key}\nallowed_ip=${'1'.repeat(3000)}\n\n`)).toMatch(
    /^errno=-\d+\n\n$/,
  );
  expect(await ask(`get=${'1'.repeat(1_000_000)}`)).toBe('');
  // Refused, it changed nothing.
  expect(await end.show('allowed-ips')).toMatch(/\t::1\/128$/);
});

test('clients that go away, stop half way or never read disturb nobody', async () => {
  const sockets: Socket[] = [];
  for (let i = 0; i < 50; i++) (await open()).socket.destroy();
  for (const text of ['set=1\nprivate_key=', 'get=1\n', 'set=1\n', 'get=1', '\0\xff']) {
    const { socket } = await open();
    socket.write(text, 'latin1');
    sockets.push(socket);
  }
  const { socket: aborted } = await open();
  aborted.write(`set=1\nlisten_port=4711\n`);
  aborted.destroy();
  // It asks and asks and never reads.
  const deaf = connect(end.socket);
  deaf.on('error', () => {});
  deaf.pause();
  await ask(
    `set=1\n${Array.from({ length: 200 }, () => `public_key=${someKey()}\nallowed_ip=10.0.0.0/8\n`).join('')}\n`,
  );
  const before = end.rssMb;
  for (let i = 0; i < 20_000; i++) deaf.write('get=1\n\n');
  for (let i = 0; i < 20; i++) expect(await end.peers()).toHaveLength(200);
  expect(await end.peers()).toHaveLength(200);
  expect(await end.show('listen-port')).not.toBe('4711');
  // 20000 answers of 50 KB are a gigabyte: it does not keep them for a client that does not take them.
  expect(end.rssMb - before).toBeLessThan(300);
  deaf.destroy();
  for (const socket of sockets) socket.destroy();
});

test('wg show and wg set at the same time each see a whole configuration', async () => {
  const keys = Array.from({ length: 20 }, () => wireguardKeys().publicKey);
  const config = (port: number): string =>
    `[Interface]\nListenPort = ${port}\n${keys.map((key, i) => `[Peer]\nPublicKey = ${key}\nAllowedIPs = 10.0.${i}.0/24\n`).join('')}`;
  await end.setconf(config(7001));
  const configuring = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) await end.setconf(config(7001 + (i & 1)));
  };
  const looking = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      expect(await end.peers()).toHaveLength(20);
      expect(await end.show('allowed-ips')).not.toMatch(/none/);
    }
  };
  await Promise.all([configuring(), looking(), looking(), looking()]);
});

const PRESHARED = 'ab'.repeat(32);
const NONE = '0'.repeat(64);

/** What a peer is said to be, without its traffic. */
const settingsOf = async (key: string): Promise<string[] | undefined> => {
  const lines = await get(end.socket);
  const at = lines.indexOf(`public_key=${key}`);
  if (at < 0) return undefined;
  const rest = lines.slice(at + 1);
  const past = rest.findIndex((line) => /^(public_key|errno)=/.test(line));
  return rest.slice(0, past).filter((line) => !/^(last_handshake|[tr]x_bytes|protocol)/.test(line));
};
const set = async (...lines: string[]): Promise<string> => await ask(`set=1\n${lines.join('\n')}\n\n`);

test('every key of the device and of a peer is set, said again, changed and taken back', async () => {
  const [one, other] = [someKey(), someKey()];
  const ok = 'errno=0\n\n';
  const privateKey = hex(end.keys.privateKey);
  const device = [`private_key=${privateKey}`, 'listen_port=7117', 'fwmark=66'];
  expect(await set(...device, `public_key=${one}`, `public_key=${other}`)).toBe(ok);
  expect((await get(end.socket)).slice(0, 3)).toEqual(device);
  expect(await settingsOf(one)).toEqual([`preshared_key=${NONE}`, 'persistent_keepalive_interval=0']);

  const peer = [
    `preshared_key=${PRESHARED}`,
    'endpoint=[2001:db8::7]:9',
    'persistent_keepalive_interval=25',
    'allowed_ip=10.0.0.0/8',
    'allowed_ip=fd00::/8',
  ];
  expect(await set(`public_key=${one}`, ...peer, 'protocol_version=1')).toBe(ok);
  expect((await settingsOf(one))?.sort()).toEqual(peer.sort());
  // What is not named stays.
  expect(await set(`public_key=${one}`, 'endpoint=192.0.2.7:9', 'allowed_ip=-fd00::/8')).toBe(ok);
  expect((await settingsOf(one))?.slice(0, 2)).toEqual([
    `preshared_key=${PRESHARED}`,
    'endpoint=192.0.2.7:9',
  ]);
  expect((await settingsOf(one))?.filter((line) => line.startsWith('allowed'))).toEqual([
    'allowed_ip=10.0.0.0/8',
  ]);
  expect(await set(`public_key=${one}`, 'replace_allowed_ips=true', 'allowed_ip=192.0.2.0/24')).toBe(ok);
  expect((await settingsOf(one))?.at(-1)).toBe('allowed_ip=192.0.2.0/24');
  expect(
    await set(
      `public_key=${one}`,
      `preshared_key=${NONE}`,
      'persistent_keepalive_interval=0',
      'replace_allowed_ips=true',
    ),
  ).toBe(ok);
  expect(await settingsOf(one)).toEqual([
    `preshared_key=${NONE}`,
    'endpoint=192.0.2.7:9',
    'persistent_keepalive_interval=0',
  ]);
  // A prefix is one peer's; of whom is nobody's, nothing is made by an update.
  expect(
    await set(`public_key=${one}`, 'allowed_ip=10.7.0.0/16', `public_key=${other}`, 'allowed_ip=10.7.0.0/16'),
  ).toBe(ok);
  expect((await settingsOf(one))?.at(-1)).toBe('persistent_keepalive_interval=0');
  expect((await settingsOf(other))?.at(-1)).toBe('allowed_ip=10.7.0.0/16');
  const stranger = someKey();
  expect(await set(`public_key=${stranger}`, 'update_only=true', 'allowed_ip=10.7.0.0/16')).toBe(ok);
  expect(await settingsOf(stranger)).toBeUndefined();
  expect((await settingsOf(other))?.at(-1)).toBe('allowed_ip=10.7.0.0/16');
  expect(await set(`public_key=${other}`, 'update_only=true', 'persistent_keepalive_interval=7')).toBe(ok);
  expect(await settingsOf(other)).toContain('persistent_keepalive_interval=7');

  expect(await set(`public_key=${one}`, 'remove=true', `public_key=${stranger}`, 'remove=true')).toBe(ok);
  expect(await settingsOf(one)).toBeUndefined();
  expect(await set('replace_peers=true', `public_key=${stranger}`)).toBe(ok);
  expect((await end.peers()).map(({ publicKey }) => hex(publicKey))).toEqual([stranger]);
  expect(await set(`private_key=${NONE}`, 'fwmark=0', 'listen_port=0')).toBe(ok);
  const [port, ...rest] = await get(end.socket);
  expect(port).toMatch(/^listen_port=[1-9]\d*$/);
  expect(rest.filter((line) => /^(private_key|fwmark)/.test(line))).toEqual([]);
});

test('several operations on one connection are answered in turn, each with the sign that wg expects', async () => {
  const key = someKey();
  const { socket, received } = await open();
  const operations: [request: string, answer: RegExp][] = [
    ['get=1\n\n', /errno=0$/],
    [`set=1\npublic_key=${key}\nallowed_ip=10.0.0.0/8\n\n`, /^errno=0$/],
    ['set=1\nlisten_port=many\n\n', /^errno=-22$/],
    ['get=1\nlisten_port=1\n\n', /^errno=22$/],
    ['hello=1\n\n', /^errno=-71$/],
    [`set=1\npublic_key=${key}\nremove=true\n\n`, /^errno=0$/],
    ['get=1\n\n', /errno=0$/],
  ];
  socket.write(operations.map(([request]) => request).join(''));
  const text = await until(
    async () => received(),
    (all) => all.split('\n\n').length === operations.length + 1,
  );
  const answers = text.split('\n\n').slice(0, -1);
  operations.forEach(([, answer], i) => {
    expect(answers[i]).toMatch(answer);
  });
  expect(answers.at(-1)).toBe(answers[0]);
  socket.destroy();
});

test('two thousand connections that say nothing, and some that begin to, keep nobody from being served', async () => {
  const before = end.rssMb;
  const port = await end.show('listen-port');
  const idle: Connection[] = [];
  for (let i = 0; i < 2000; i++) idle.push(await open());
  for (const { socket } of idle.slice(0, 500)) socket.write('set=1\nlisten_port=47');
  expect(await set(`public_key=${someKey()}`)).toBe('errno=0\n\n');
  expect(await end.peers()).toHaveLength(1);
  expect(end.rssMb - before).toBeLessThan(150);
  // A line without end on many at once is cut off on each.
  for (const { socket } of idle.slice(0, 50)) socket.write('1'.repeat(100_000));
  await until(
    async () => idle.slice(0, 50).every(({ socket }) => socket.closed),
    (all) => all,
  );
  for (const { socket } of idle) socket.destroy();
  // What was begun and not ended has changed nothing.
  expect(await end.show('listen-port')).toBe(port);
});

test('the socket is for its owner alone', async () => {
  const { mode } = statSync(end.socket);
  expect(mode & 0o777).toBe(0o700);
  expect(statSync(dirname(end.socket)).mode & 0o022).toBe(0);
  const nobody = await lab.tryRun([
    'setpriv',
    '--reuid=65534',
    '--clear-groups',
    'wg',
    'show',
    end.interface,
  ]);
  expect(nobody.code).not.toBe(0);
  expect(nobody.stdout).toBe('');
});
