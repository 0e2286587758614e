// S1, in resolvers of somebody's own: the snippets of deploy/examples/names as they are, with the programs that they are for.
// Each is tried where its program is: unbound, systemd-resolved (RESOLVED names the directory that Debian's package was
// unpacked to, where it is not installed), CoreDNS (in the directory that KUBERNETES names).

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Daemon } from '../lab/daemon.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import { programOf } from '../lab/kind/programs.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

const SNIPPETS = resolve(import.meta.dirname, '../../deploy/examples/names');
const UNBOUND = '/usr/sbin/unbound';
const RESOLVED = process.env['RESOLVED'] ?? '/';
const UPSTREAM = ['127.0.0.9', '5353'] as const;

let domain: Domain;
let node: Node;
let client: Pod;
let web: Pod;
let upstream: Daemon;
let gateway: string;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  node = await domain.startNode('alpha', { networks: ['red'] });
  web = await node.pod('web', 'red');
  client = await node.pod('client', 'red');
  const found = /via (\S+) dev red/.exec(await client.host.run(['ip', 'route']))?.[1];
  if (found === undefined) throw new Error('red has no gateway');
  gateway = found;
  upstream = client.host.start([process.execPath, join(import.meta.dirname, 's1-upstream.ts'), ...UPSTREAM]);
  await upstream.printed(/serving/);
}, 120_000);

afterAll(() => domain?.close());

/** As people put it into place: with the gateway that is theirs. */
const snippet = (name: string): string =>
  readFileSync(join(SNIPPETS, name), 'utf8').replaceAll('10.60.0.1', gateway);
const written = (name: string, text: string): string => {
  const path = join(domain.lab.scratch, name);
  writeFileSync(path, text);
  return path;
};
const dig = async (server: string, ...question: string[]): Promise<string> => {
  const [address = '', port = '53'] = server.split('@');
  const how = ['+tries=1', '+time=3', '-p', port, `@${address}`];
  const { stdout } = await client.host.tryRun(['dig', ...how, ...question]);
  const status = /status: (\w+)/.exec(stdout)?.[1] ?? 'none';
  const answers = [...stdout.matchAll(/^[^;\s]\S*\s+\d+\s+IN\s+\w+\s+(\S+)$/gm)].map(([, value]) => value);
  return [status, ...answers].join(' ');
};
const asked = (): string[] => upstream.output().match(/asked .*/g) ?? [];

/** What each of them has to do. */
const resolves = async (server: string): Promise<void> => {
  await eventually(async () => {
    expect(await dig(server, 'web.red.vl3', 'A')).toBe(`NOERROR ${web.v4('red')}`);
  }, SOON);
  const before = asked().length;
  expect(await dig(server, '-x', web.v4('red'))).toBe('NOERROR web.red.vl3.');
  expect(await dig(server, 'nobody.red.vl3', 'A')).toBe('NXDOMAIN');
  expect(
    asked()
      .slice(before)
      .filter((line) => /vl3|arpa/.test(line)),
    'asked of the world',
  ).toEqual([]);
  const began = performance.now();
  expect(await dig(server, 'www.example.com', 'A')).toBe('NOERROR 192.0.2.80');
  expect(performance.now() - began).toBeLessThan(3000);
  expect(await dig(server, 'nobody.example.com', 'A')).toBe('NXDOMAIN');
};

describe('unbound.conf', () => {
  test.skipIf(!existsSync(UNBOUND))('has unbound answer for a network beside the world', async () => {
    const rest = `server:
  interface: 127.0.0.1@5301
  username: ""
  chroot: ""
  do-not-query-localhost: no
  use-syslog: no
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: ${UPSTREAM.join('@')}
`;
    const unbound = client.host.start([
      UNBOUND,
      '-d',
      '-p',
      '-c',
      written('unbound.conf', snippet('unbound.conf') + rest),
    ]);
    await resolves('127.0.0.1@5301');
    await unbound.stop();
  });
});

describe('coredns.Corefile', () => {
  const program = programOf('coredns');
  test.skipIf(!existsSync(program))('has CoreDNS answer for a network beside the world', async () => {
    const rest = `.:53 {\n  errors\n  forward . ${UPSTREAM.join(':')}\n}\n`;
    const coredns = client.host.start([
      program,
      '-conf',
      written('Corefile', snippet('coredns.Corefile') + rest),
    ]);
    await resolves('127.0.0.1');
    await coredns.stop();
  });
});

describe('resolved.sh', () => {
  const program = join(RESOLVED, 'lib/systemd/systemd-resolved');
  test.skipIf(!existsSync(program))(
    'has systemd-resolved ask a network for its names, and nobody else',
    async () => {
      const place = join(domain.lab.scratch, 'machine');
      for (const name of ['etc', 'work', 'run']) mkdirSync(join(place, name), { recursive: true });
      const global = `[Resolve]\nDNS=${UPSTREAM.join(':')}\nLLMNR=no\nMulticastDNS=no\nCache=no\nDNSSEC=no\n`;
      // A machine of its own as far as this goes: its users, its bus, its directory for sockets.
      const script = `
      mount -t tmpfs tmpfs "$1/run"; mkdir -p "$1/run/vl3-lab" "$1/run/dbus" "$1/run/systemd/resolve"
      mount --rbind /run/vl3-lab "$1/run/vl3-lab"; mount --rbind "$1/run" /run
      mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" overlay /etc
      echo 'systemd-resolve:x:991:991::/:/usr/sbin/nologin' >>/etc/passwd; echo 'systemd-resolve:x:991:' >>/etc/group
      mkdir -p /etc/dbus-1/system.d /etc/systemd; cp "$2"/usr/share/dbus-1/system.d/org.freedesktop.resolve1.conf /etc/dbus-1/system.d/
      printf '%s' "$3" >/etc/systemd/resolved.conf
      chown 991:991 /run/systemd/resolve
      dbus-daemon --system --nopidfile --fork
      SYSTEMD_LOG_TARGET=console "$2/lib/systemd/systemd-resolved" &
      until PATH="$2/usr/bin:$PATH" sh -e "$4"; do sleep 0.2; done
      echo configured; wait`;
      const machine = client.host.start([
        ...[
          'unshare',
          '--mount',
          '--pid',
          '--fork',
          '--mount-proc',
          '--kill-child',
          'sh',
          '-ec',
          script,
          'sh',
        ],
        ...[place, RESOLVED, global, written('resolved.sh', snippet('resolved.sh'))],
      ]);
      await machine.printed(/^configured$/m, SOON.timeout);
      await resolves('127.0.0.53');
      await machine.stop();
    },
  );
});
