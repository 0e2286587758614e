// Attaching: asked twice, in a crowd, wrongly; `vl3 run` and its end, also by SIGKILL; and a node that is cleaned.

import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';

let domain: Domain;
let a1: Node;
let web: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  await domain.createNetwork('red-again', '--pool-v4', '10.60.128.0/20');
  a1 = await domain.startNode('a1');
  web = await a1.pod('web', 'red');
}, 120_000);

afterAll(() => domain?.close());

const attach = (...options: string[]) => a1.tryVl3('attach', '-o', 'json', ...options);
const hostInterfaces = async (network: string): Promise<string[]> => {
  const links: { ifname: string }[] = JSON.parse(
    await a1.router(network).run(['ip', '-json', 'link', 'show', 'type', 'veth']),
  );
  return links.map(({ ifname }) => ifname).sort();
};
const attached = async (network: string): Promise<number | undefined> =>
  (await a1.status()).networks.find(({ name }) => name === network)?.attachments;

describe('attaching', () => {
  test('the same namespace twice answers the same and makes nothing new', async () => {
    const before = await hostInterfaces('red');
    expect(await a1.attach(web, 'red')).toEqual(await a1.attach(web, 'red'));
    expect((await a1.attach(web, 'red')).addresses).toEqual([web.v4('red'), web.v6('red')]);
    expect(await hostInterfaces('red')).toEqual(before);
  });

  test('20 namespaces at once get 20 addresses of each family, and all of them answer', async () => {
    const pods = await Promise.all(
      Array.from({ length: 20 }, (_, i) => Pod.create(domain.lab, `crowd${i}`, a1)),
    );
    await Promise.all(pods.map((pod) => a1.attach(pod, 'red')));
    expect(new Set(pods.map((pod) => pod.v4('red'))).size).toBe(20);
    expect(new Set(pods.map((pod) => pod.v6('red'))).size).toBe(20);
    const answers = await Promise.all(
      pods.flatMap((pod) => [pod.v4('red'), pod.v6('red')]).map((to) => web.reaches(to)),
    );
    expect(answers).toEqual(answers.map(() => true));
    const detached = await Promise.all(
      pods.map((pod) => a1.vl3('detach', '--network', 'red', '--netns', pod.host.netns)),
    );
    expect(detached).toHaveLength(20);
    expect(await attached('red')).toBe(1);
    expect(await hostInterfaces('red')).toHaveLength(1);
  });

  test('detaching is repeatable, and takes the interface and nothing else', async () => {
    const pod = await a1.pod('brief', 'red', 'green');
    expect(await web.reaches(pod.v4('red'))).toBe(true);
    const detach = () =>
      a1
        .vl3('detach', '--network', 'red', '--netns', pod.host.netns, '-o', 'json')
        .then((text) => JSON.parse(text));
    expect(await detach()).toMatchObject([{ id: pod.on('red').id }]);
    expect(await detach()).toEqual([]);
    expect(await ping(web.host, pod.v4('red'), { wait: 1 })).toMatchObject({ received: 0 });
    expect(await pod.host.run(['ip', '-br', 'link'])).not.toMatch(/^red\b/m);
    expect(await pod.host.run(['ip', '-br', 'link'])).toMatch(/^green\b/m);
  });

  test('an interface can have a name of its own', async () => {
    const pod = await Pod.create(domain.lab, 'renamed', a1);
    expect(await a1.attach(pod, 'red', '--interface', 'net1')).toMatchObject({ interfaceName: 'net1' });
    expect(await pod.host.run(['ip', '-br', 'link'])).toMatch(/^net1\b/m);
    const again = await attach('--network', 'red', '--netns', pod.host.netns, '--interface', 'net2');
    expect(again.stderr).toMatch(/is on red already, as net1: detach it first/);
    expect(again.code).toBe(1);
  });

  test.each([
    ['a network nobody created', ['--network', 'blue'], /there is no network "blue"/],
    ['a network name that is none', ['--network', 'Red!'], /network: use a DNS label/],
    [
      'an interface name with a space',
      ['--network', 'red', '--interface', 'a b'],
      /"a b" can't name an interface: use 1 to 15/,
    ],
    ['an interface name that is too long', ['--network', 'red', '--interface', 'x'.repeat(16)], /1 to 15/],
    [
      "the pod's own interface",
      ['--network', 'red', '--interface', 'eth0'],
      /can't be called "eth0": choose another/,
    ],
    ['the loopback', ['--network', 'red', '--interface', 'lo'], /can't be called "lo"/],
    ['a name that is not one', ['--network', 'red', '--name', 'Web Server'], /workload: use a DNS name/],
    [
      'a label that is not one',
      ['--network', 'red', '--label', 'a=b c'],
      /labels\.a: use a Kubernetes label value/,
    ],
  ])('refuses %s in a sentence', async (_, options, sentence) => {
    const pod = await Pod.create(domain.lab, `bad${Math.random().toString(36).slice(2, 8)}`, a1);
    const before = await attached('red');
    const { code, stderr } = await attach('--netns', pod.host.netns, ...options);
    expect(stderr).toMatch(sentence);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(code).toBe(1);
    expect(await pod.host.run(['ip', '-br', 'link'])).toMatch(/^lo\b.*\n$/);
    expect(await attached('red')).toBe(before);
  });

  test.each([
    ['no namespace', '/run/netns/nobody-made-this', /there is no network namespace at .*the path is wrong/],
    ['a file', '/etc/hostname', /is not a network namespace: name one like/],
  ])('refuses %s as a namespace', async (_, path, sentence) => {
    const { code, stderr } = await attach('--network', 'red', '--netns', path);
    expect(stderr).toMatch(sentence);
    expect(code).toBe(1);
  });

  test("refuses the host's own namespace", async () => {
    const { code, stderr } = await attach('--network', 'red', '--netns', a1.host.netns);
    expect(stderr).toMatch(/is the host's own network namespace: give the workload/);
    expect(code).toBe(1);
  });

  test('refuses a second network whose pool overlaps one that the pod is on', async () => {
    const { code, stderr } = await attach('--network', 'red-again', '--netns', web.host.netns);
    expect(stderr).toMatch(/10\.60\.128\.0\/20/);
    expect(code).toBe(1);
    expect(await web.reaches('10.60.0.1')).toBe(true);
  });
});

describe('vl3 run', () => {
  test('runs the command on its networks and ends with its code', async () => {
    const on = ['--network', 'red', '--network', 'green'];
    const shown = await a1.vl3('run', ...on, '--', 'ip', '-br', 'address');
    expect(shown).toMatch(/^red@\S+ +UP +10\.60\.\S+ fd00:60:/m);
    expect(shown).toMatch(/^green@\S+ +UP +10\.70\./m);
    expect((await a1.tryVl3('run', ...on, '--', 'sh', '-c', 'exit 7')).code).toBe(7);
    expect((await a1.tryVl3('run', '--network', 'red', '--', 'sh', '-c', 'kill -TERM $$')).code).toBe(143);
    expect((await a1.tryVl3('run', '--network', 'red', '--', 'no-such-command')).code).toBe(127);
  });

  test('reaches pods, and leaves nothing when the command has ended', async () => {
    const before = await hostInterfaces('red');
    await a1.vl3('run', '--network', 'red', '--', 'ping', '-c', '1', '-w', '10', web.v4('red'));
    expect(await hostInterfaces('red')).toEqual(before);
    const known = await domain.adminJson<LocalAttachment[]>('attachment', 'list', '--network', 'red');
    expect(known.map(({ workload }) => workload).filter((name) => name.startsWith('run-'))).toEqual([]);
  });

  test('refuses what it cannot attach, and does not run the command', async () => {
    const { code, stderr, stdout } = await a1.tryVl3('run', '--network', 'blue', '--', 'echo', 'ran');
    expect(stderr).toMatch(/there is no network "blue"/);
    expect(code).toBe(1);
    expect(stdout).toBe('');
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'ended by %s, takes its command and attachment with it',
    async (signal) => {
      const name = `doomed-${signal.toLowerCase()}`;
      const before = await hostInterfaces('red');
      const command = ['run', '--socket', a1.socket, '--network', 'red', '--name', name, '--'];
      const runner = a1.host.start(
        vl3(...command, 'sh', '-c', 'readlink /proc/self/ns/net; exec sleep 1000'),
      );
      const [, namespace = ''] = await runner.printed(/^(net:\[\d+\])$/m, SOON.timeout);
      expect(processesIn(namespace)).toHaveLength(1);
      await runner.stop(signal, 20_000);
      await vi.waitFor(() => expect(processesIn(namespace)).toEqual([]), SOON);
      await vi.waitFor(async () => expect(await hostInterfaces('red')).toEqual(before), SOON);
      await vi.waitFor(async () => {
        const known = await domain.adminJson<LocalAttachment[]>('attachment', 'list');
        expect(known.map(({ workload }) => workload)).not.toContain(name);
      }, SOON);
    },
  );
});

test('a namespace that is deleted is detached by itself, and its addresses leave the registry', async () => {
  const pod = await a1.pod('gone', 'red');
  const listed = () => domain.adminJson<LocalAttachment[]>('attachment', 'list', '--network', 'red');
  await vi.waitFor(async () => expect(JSON.stringify(await listed())).toContain(pod.v4('red')), SOON);
  await domain.lab.run(['ip', 'netns', 'delete', pod.host.netns.slice('/run/netns/'.length)]);
  await vi.waitFor(async () => expect(JSON.stringify(await listed())).not.toContain(pod.v4('red')), SOON);
});

describe('vl3 agent', () => {
  test('refuses to run twice on one state, and to be cleaned while it runs', async () => {
    const second = await a1.host.tryRun(vl3('agent', 'run', ...a1.place));
    expect(second.stderr).toMatch(/another agent is using .*: stop it, or give this one its own --state-dir/);
    expect(second.code).toBe(1);
    const clean = await a1.host.tryRun(vl3('agent', 'clean', ...a1.place));
    expect(clean.stderr).toMatch(/an agent is running with --netns-prefix .*: stop it first/);
    expect(clean.code).toBe(1);
    expect(await web.reaches('10.60.0.1')).toBe(true);
  });

  test('cleaned, leaves nothing of itself on the node', async () => {
    await a1.agent.stop('SIGKILL');
    expect(existsSync(a1.socket)).toBe(true);
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(a1.netnsPrefix))).not.toEqual([]);
    expect((await a1.clean()).length).toBeGreaterThan(2);
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(a1.netnsPrefix))).toEqual([]);
    expect(await web.host.run(['ip', '-br', 'link'])).toMatch(/^lo\b.*\n$/);
    expect(existsSync(a1.stateDir)).toBe(false);
    expect(existsSync(a1.socket)).toBe(false);
    expect(await a1.clean()).toEqual([]);
  });

  test('enrolled anew under its old name, gets its prefixes back and serves pods', async () => {
    const prefixes = async () =>
      (await domain.adminJson<{ leases: { prefix: string }[] }>('node', 'show', 'a1')).leases;
    const before = await prefixes();
    await a1.enrol();
    await a1.attach(web, 'red');
    expect(await web.reaches('10.60.0.1')).toBe(true);
    expect(await prefixes()).toEqual(before);
  });
});

/** The processes in a network namespace, by its name in nsfs: `net:[4026532345]`. */
function processesIn(namespace: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/net`) === namespace;
    } catch {
      return false;
    }
  });
}
