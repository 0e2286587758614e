// `vl3 device` and `vl3-wg` as programs: how they are started and end, what they leave, and what they refuse; as scripts that
// were written for wireguard-go expect it.

import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isListening } from '../lab/control-socket.ts';
import type { Daemon } from '../lab/daemon.ts';
import type { Host } from '../lab/host.ts';
import { Lab } from '../lab/lab.ts';
import { vl3 } from '../lab/program.ts';
import { until } from './suite-scene.ts';
import { get } from './uapi-client.ts';

const VL3_WG = fileURLToPath(new URL('../../cmd/vl3/vl3-wg', import.meta.url));
const DIRECTORY = '/var/run/wireguard';
const PEERS = 5000;

const lab = Lab.create();
let host: Host;
let made = 0;

beforeAll(async () => {
  host = await lab.host('d');
});
afterAll(async () => await lab.close());

const socketOf = (name: string): string => `${DIRECTORY}/${name}.sock`;
const newName = (): string => {
  made += 1;
  const name = `${lab.name}-p${made}`;
  lab.ledger.record({ kind: 'file', path: socketOf(name) });
  return name;
};
const isLink = async (name: string): Promise<boolean> =>
  (await host.tryRun(['ip', 'link', 'show', name])).code === 0;
const traces = async (name: string): Promise<[socket: boolean, link: boolean]> => [
  existsSync(socketOf(name)),
  await isLink(name),
];

const isUp = async (name: string, daemon: Daemon): Promise<void> => {
  await until(
    async () => (daemon.running ? await isListening(socketOf(name)) : daemon.output()),
    (answer) => answer !== false,
  );
  expect(daemon.output()).toBe('');
  expect(await traces(name)).toEqual([true, true]);
};

test.each([
  ['vl3 device -f', vl3('device', '-f'), {}],
  ['vl3-wg with WG_PROCESS_FOREGROUND=1', [VL3_WG], { WG_PROCESS_FOREGROUND: '1', LOG_LEVEL: 'verbose' }],
])('%s stays in the foreground', async (_, command, env) => {
  const name = newName();
  const daemon = host.start([...command, name], { env });
  await isUp(name, daemon);
  await sleep(200);
  expect(daemon.running).toBe(true);
  await daemon.stop();
  expect(await traces(name)).toEqual([false, false]);
});

test.each(['SIGTERM', 'SIGINT'] as const)(
  'when it has ended on %s, its interface and socket are gone and its name is free',
  async (signal) => {
    const name = newName();
    for (let round = 0; round < 2; round++) {
      const daemon = host.start(vl3('device', '--foreground', name));
      await isUp(name, daemon);
      expect(await get(socketOf(name))).toContain('errno=0');
      await daemon.stop(signal);
      expect(await traces(name)).toEqual([false, false]);
    }
  },
);

/** The one process that a device in the background is. */
const backgroundOf = async (name: string): Promise<string> => {
  const found = (await host.run(['pgrep', '-f', `device --foreground .*--ready-fd ${name}$`]))
    .trim()
    .split('\n');
  expect(found).toHaveLength(1);
  return found[0] ?? '';
};

test.each([
  ['--worker-pairs', vl3('device', '--worker-pairs', '2'), {}],
  ['VL3_WORKER_PAIRS, which wg-quick hands on', [VL3_WG], { VL3_WORKER_PAIRS: '2' }],
])('as many sockets and queues as %s says are its own', async (_, command, env) => {
  const name = newName();
  await host.run([...command, name], { env });
  const pid = await backgroundOf(name);
  const tuns = (await host.run(['sh', '-c', `ls -l /proc/${pid}/fd | grep -c /dev/net/tun`])).trim();
  await host.run(['ip', 'link', 'set', name, 'up']);
  const sockets = await until(
    () => host.run(['sh', '-c', `ss -Huanp | grep -c pid=${pid}, || true`]),
    (count) => count.trim() === '10',
  );
  // Those of IPv4 and IPv6, as many for sparse flows, and of either one that keeps others from sharing the port.
  expect([tuns, sockets.trim()]).toEqual(['2', '10']);
  await host.run(['kill', '-TERM', pid]);
  await until(
    () => traces(name),
    (left) => left.every((is) => !is),
  );
});

test('a number of worker pairs that there cannot be is refused, and leaves nothing', async () => {
  const name = newName();
  const { code, stderr } = await host.tryRun(vl3('device', '--worker-pairs', '3', name));
  expect([code, stderr]).toEqual([
    2,
    expect.stringMatching(/worker-pairs.*Allowed choices are auto, half, 1, 2, 4, 8/),
  ]);
  expect(await traces(name)).toEqual([false, false]);
});

test('from the background it ends on a signal too, and has let go of the terminal and the folder it came from', async () => {
  const name = newName();
  // A shell that waits for all who hold its output would wait for ever.
  await host.run(['sh', '-c', `${VL3_WG} ${name} | cat`]);
  expect(await traces(name)).toEqual([true, true]);
  const pid = await backgroundOf(name);
  const session = (await host.run(['ps', '-o', 'sid=', '-p', pid])).trim();
  expect(session).toBe(pid);
  await host.run(['kill', '-TERM', pid]);
  await until(
    () => traces(name),
    (left) => left.every((is) => !is),
  );
  await host.run([VL3_WG, name]);
  expect(await traces(name)).toEqual([true, true]);
  await host.run(['ip', 'link', 'delete', name]);
  await until(
    () => traces(name),
    (left) => left.every((is) => !is),
  );
});

describe('it refuses with a sentence, and leaves nothing,', () => {
  const refused = async (
    name: string,
    options: { env?: Record<string, string>; before?: string[] } = {},
  ): Promise<string> => {
    const links = await host.run(['ip', '-oneline', 'link']);
    const sockets = existsSync(DIRECTORY) ? readdirSync(DIRECTORY) : [];
    const command = [...(options.before ?? []), ...vl3('device', name)];
    const { code, stderr } = await host.tryRun(command, { env: options.env ?? {} });
    expect(code).toBeGreaterThan(0);
    expect(stderr).not.toMatch(/\n +at /);
    expect(await host.run(['ip', '-oneline', 'link'])).toBe(links);
    if (existsSync(DIRECTORY))
      expect(readdirSync(DIRECTORY).filter((one) => !sockets.includes(one) && one.startsWith(name))).toEqual(
        [],
      );
    return stderr;
  };

  test.each(['sixteen-letters.', 'a/b', 'wg%d', '..'])('the name "%s"', async (name) => {
    expect(await refused(name)).toMatch(/name|argument/);
  });

  test.each(['WG_TUN_FD', 'WG_UAPI_FD'])('a descriptor in %s', async (variable) => {
    expect(await refused(newName(), { env: { [variable]: '7' } })).toMatch(`unset it`);
  });

  test('the name of an interface that is there and no TUN', async () => {
    const name = newName();
    await host.ip(`link add ${name} type veth peer name ${name}p`);
    expect(await refused(name)).toMatch(/not a TUN of ours/);
    await host.ip(`link delete ${name}`);
  });

  test('a user who may not', async () => {
    expect(
      await refused(newName(), { before: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] }),
    ).toMatch(/root|CAP_NET_ADMIN|permission/i);
  });
});

test('5000 peers cost it at most 4 KB each, a moment after it has understood them', async () => {
  const name = newName();
  const daemon = host.start(vl3('device', '-f', name));
  await isUp(name, daemon);
  await host.run(['ip', 'link', 'set', name, 'up']);
  const file = join(lab.scratch, `${name}.conf`);
  const key = (): string => randomBytes(32).toString('base64');
  const peers = Array.from(
    { length: PEERS },
    (_, i) => `[Peer]\nPublicKey = ${key()}\nAllowedIPs = 10.${i >> 8}.${i & 255}.0/24\n`,
  );
  await host.run(['wg', 'set', name, 'listen-port', '0']);
  const before = residentKb(daemon.pid);
  writeFileSync(file, `[Interface]\nPrivateKey = ${key()}\n${peers.join('')}`);
  await host.run(['wg', 'setconf', name, file]);
  expect((await host.run(['wg', 'show', name, 'peers'])).trim().split('\n')).toHaveLength(PEERS);
  await until(
    () => Promise.resolve(residentKb(daemon.pid) - before),
    (grown) => grown <= PEERS * 4,
    'KB are still more',
  );
  await daemon.stop();
});

const residentKb = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? Number.NaN);
