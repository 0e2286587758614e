// The control socket in rough hands: many allowed IPs, lines as long as they may be and longer, questions while things change,
// and clients that go away, stop half way, or never read. Of vl3; what wireguard-go does is not ours to judge.

import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { Lab } from '../lab/lab.ts';
import { wireguardKeys } from '../lab/wireguard-go.ts';
import { End } from './suite-end.ts';
import { until } from './suite-scene.ts';

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

/** A connection to the control socket, and what came back. */
const open = async (): Promise<{ socket: Socket; received: () => string }> => {
  const socket = connect(end.socket);
  let text = '';
  socket.setEncoding('latin1');
  socket.on('data', (more: string) => {
    text += more;
  });
  socket.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', () => resolve());
    socket.once('error', reject);
  });
  return { socket, received: () => text };
};

/** Sends a request and returns its answer. `isLast`: it says at once that it has nothing more to ask. */
const ask = async (request: string, isLast = false): Promise<string> => {
  const { socket, received } = await open();
  if (isLast) socket.end(request);
  else socket.write(request);
  const answer = await until(
    async () => received(),
    (text) => (!isLast && text.endsWith('\n\n')) || socket.closed,
  );
  socket.destroy();
  return answer;
};

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
