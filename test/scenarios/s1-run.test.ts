// S1: what `vl3 run` starts finds the workloads of its networks by name, and the world's names by the machine's resolvers; no
// question goes to the wrong one, none is left without an answer.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Daemon } from '../lab/daemon.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import type { Result } from '../lab/host.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';

const UPSTREAM = '127.0.0.9';

let domain: Domain;
let node: Node;
let web: Pod;
let db: Pod;
let upstream: Daemon;
let resolvConf: string;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  node = await domain.startNode('alpha', { networks: ['red', 'green'] });
  [web, db] = (await Promise.all([node.pod('web', 'red'), node.pod('db', 'green')])) as [Pod, Pod];
  upstream = node.host.start([process.execPath, join(import.meta.dirname, 's1-upstream.ts'), UPSTREAM]);
  await upstream.printed(/serving/);
  resolvConf = join(domain.lab.scratch, 'resolv.conf');
  writeFileSync(resolvConf, `search corp.example\nnameserver ${UPSTREAM}\n`);
}, 120_000);

afterAll(() => domain?.close());

/** Runs a shell script by `vl3 run` on a machine whose resolv.conf is the one above. */
const run = (networks: string[], script: string, ...options: string[]): Promise<Result> => {
  const wanted = networks.flatMap((network) => ['--network', network]);
  const command = vl3('run', '--socket', node.socket, ...wanted, ...options, '--', 'sh', '-c', script);
  const mount = ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/resolv.conf && exec "$@"'];
  return node.host.tryRun([...mount, resolvConf, ...command], { timeoutMs: 60_000 });
};

/** Names the C library looks up, one after the other: "name address", or "name -". */
const lookUp = (names: readonly string[]): string =>
  names.map((name) => `echo ${name} $(getent ahostsv4 ${name} | head -1 | cut -d' ' -f1)`).join('\n');

const asked = (): string[] => upstream.output().match(/asked .*/g) ?? [];

describe('vl3 run', () => {
  test('finds workloads of all its networks, in full and by their name alone', async () => {
    const names = ['web.red.vl3', 'WEB.Red.vl3', 'web', 'db.green.vl3', 'db'];
    const before = asked().length;
    await eventually(async () => {
      const { stdout, stderr } = await run(['red', 'green'], lookUp(names));
      expect(stdout.trim().split('\n'), stderr).toEqual([
        `web.red.vl3 ${web.v4('red')}`,
        `WEB.Red.vl3 ${web.v4('red')}`,
        `web ${web.v4('red')}`,
        `db.green.vl3 ${db.v4('green')}`,
        `db ${db.v4('green')}`,
      ]);
    }, SOON);
    expect(asked().slice(before), 'nothing of it is the business of the machine’s resolver').toEqual([]);
  });

  test('finds workloads of a network that is named with the own domain, too', async () => {
    const { stdout, stderr } = await run(
      ['red@test.example', 'green'],
      `grep ^search /etc/resolv.conf\n${lookUp(['web', 'db'])}`,
    );
    expect(stdout.trim().split('\n'), stderr).toEqual([
      'search red.vl3 green.vl3 corp.example',
      `web ${web.v4('red')}`,
      `db ${db.v4('green')}`,
    ]);
  });

  test('finds itself, and a workload by its address', async () => {
    const script = `getent hosts ${web.v4('red')} ${web.v6('red')}; getent ahostsv4 me.red.vl3`;
    const { stdout } = await run(['red'], script, '--name', 'me');
    expect(stdout).toContain(`${web.v4('red')}`);
    expect(stdout.match(/web\.red\.vl3/g)).toHaveLength(2);
    expect(stdout).toMatch(/10\.60\.\d+\.\d+\s+STREAM/);
  });

  test('resolves names of the world as the machine does, each with the questions it takes and no more', async () => {
    const before = asked().length;
    const { stdout } = await run(['red'], lookUp(['www.example.com', 'no.example.com']));
    expect(stdout.trim().split('\n')).toEqual(['www.example.com 192.0.2.80', 'no.example.com']);
    const names = asked()
      .slice(before)
      .map((line) => line.split(' ')[2]);
    // As it is, and below the machine's search domain; below the network's, the gateway denies it.
    expect([...new Set(names)]).toEqual(['www.example.com', 'no.example.com', 'no.example.com.corp.example']);
    // A question that is asked again was not answered in time.
    expect(names.length).toBe(new Set(asked().slice(before)).size);
  });

  test('denies names of networks that it is not on, at once and without asking anybody', async () => {
    const before = asked().length;
    const script = 'dig +tries=1 +time=4 db.green.vl3; dig +tries=1 +time=4 +tcp nobody.red.vl3';
    const { stdout } = await run(['red'], script);
    expect(stdout.match(/status: NXDOMAIN/g), stdout).toHaveLength(2);
    expect(asked().slice(before)).toEqual([]);
  });

  test('answers by TCP too', async () => {
    const { stdout } = await run(['red'], 'dig +tcp +short web.red.vl3 A; dig +tcp +short web.red.vl3 AAAA');
    expect(stdout.trim().split('\n')).toEqual([web.v4('red'), web.v6('red')]);
  });

  test('leaves the machine’s resolv.conf as it is, and in its place when asked to', async () => {
    expect((await run(['red'], 'cat /etc/resolv.conf')).stdout).toBe(
      '# Written by vl3 for this namespace.\nsearch red.vl3 corp.example\nnameserver 127.0.0.53\n',
    );
    expect((await run(['red'], 'cat /etc/resolv.conf', '--no-resolver')).stdout).toBe(
      `search corp.example\nnameserver ${UPSTREAM}\n`,
    );
  });
});
