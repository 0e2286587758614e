// T3, within one domain: who is admitted by a rule reaches the network, who is not reaches nothing, whatever its agent does;
// a rule taken away detaches live, and what waits is attached when a rule comes.

import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Capture } from '../lab/capture.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';
import { fromSources } from '../lab/program.ts';

const ROGUE = resolve(import.meta.dirname, 'rogue-agent.ts');

/** An agent that ignores every refusal and every detach. */
const rogue = (...args: string[]): string[] => {
  const [node = '', ...rest] = fromSources(...args);
  return [node, '--import', ROGUE, ...rest];
};

let domain: Domain;
let n1: Node;
let n2: Node;
let n3: Node;
let p1: Pod;
let p2: Pod;
/** On the node whose agent ignores everything. */
let p3: Pod;

const LEDGER = ['--label', 'app=ledger'];

const ledger = async (node: Node, name: string): Promise<Pod> => {
  const pod = await node.pod(name);
  await node.attach(pod, 'red', ...LEDGER);
  return pod;
};

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  [n1, n2, n3] = await Promise.all([
    domain.startNode('n1'),
    domain.startNode('n2'),
    domain.startNode('n3', { program: rogue }),
  ]);
  [p1, p2, p3] = await Promise.all([ledger(n1, 'p1'), ledger(n2, 'p2'), ledger(n3, 'p3')]);
  await domain.meet('red', [n1, n2]);
  expect(await p1.reaches(p2.v4('red'))).toBe(true);
  expect(await p3.reaches(p1.v4('red'))).toBe(true);
}, 120_000);

afterAll(() => domain?.close());

const rule = (...args: string[]) => domain.admin('admission', 'create', '--network', 'red', ...args);
const unrule = (name: string) =>
  domain.command('admission', 'delete', name, '--network', 'red', '--admin', domain.adminFile);

/** What a node's peers let another have. */
const allowed = async (node: Node, other: string): Promise<readonly string[]> => {
  const { networks } = await node.status();
  return networks[0]?.peers.find((peer) => peer.node === other)?.prefixes ?? [];
};

/** How much of what is sent gets in to the pod, and is answered? */
const gets = async (from: Pod, pod: Pod, source = from.v4('red'), sender = from.host) => {
  const capture = await Capture.start(pod.host, 'red', ['src', 'host', source]);
  const { received } = await ping(sender, pod.v4('red'), { count: 2, wait: 1, source });
  return { received, arrived: (await capture.stop()).length };
};
const NOTHING = { received: 0, arrived: 0 };

const pendingOn = async (node: Node, workload: string): Promise<string> =>
  (await new LocalClient(node.socket).attachments()).find((one) => one.workload === workload)?.pending ??
  'there is none';

test('restricting a network to those who are admitted anyway interrupts no session', async () => {
  const before = await n1.peer('red', n2);
  await rule('ledger', ...LEDGER);
  await unrule('home');
  await vi.waitFor(async () => {
    expect(await allowed(n1, 'n2')).toEqual(
      [p2.v4('red'), p2.v6('red')].map((one) => hostPrefix(one)).sort(),
    );
    expect(await allowed(n2, 'n1')).toEqual(
      [p1.v4('red'), p1.v6('red')].map((one) => hostPrefix(one)).sort(),
    );
  }, SOON);
  expect((await n1.peer('red', n2))?.lastHandshakeAt).toBe(before?.lastHandshakeAt);
  expect(await p1.reaches(p2.v6('red'))).toBe(true);
  expect(await p3.reaches(p1.v4('red'))).toBe(true);
});

const hostPrefix = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;

test('who is not admitted waits, is told why, and is attached when a rule comes; taken away, it is detached live', async () => {
  const web = await n1.pod('web');
  const { code, stderr } = await n1.tryVl3(
    'attach',
    '--netns',
    web.host.netns,
    '--network',
    'red',
    '--name',
    'web',
  );
  expect(code).toBe(5);
  expect(stderr).toMatch(
    /red is pending: no admission rule of network "red" admits "web" \(node "n1" of test\.example\)/,
  );
  await rule('web', '--workload', 'workload == "web"');
  await vi.waitFor(async () => expect(await pendingOn(n1, 'web')).toBe(''), SOON);
  await vi.waitFor(async () => expect((await ping(web.host, p2.v4('red'))).received).toBe(1), SOON);
  await unrule('web');
  await vi.waitFor(
    async () => expect(await pendingOn(n1, 'web')).toMatch(/^no admission rule of network "red"/),
    SOON,
  );
  expect((await web.host.tryRun(['ip', 'link', 'show', 'red'])).code).not.toBe(0);
  expect(await p1.reaches(p2.v4('red'))).toBe(true);
});

test('an agent that ignores every refusal and every detach gets no packet in or out', async () => {
  await rule('honest', '--workload', 'node in ["n1", "n2"] && labels.app == "ledger"');
  await unrule('ledger');
  await vi.waitFor(async () => {
    expect(await allowed(n1, 'n3')).toEqual([]);
    expect(await allowed(n2, 'n3')).toEqual([]);
  }, SOON);
  expect(await new LocalClient(n3.socket).attachments()).toMatchObject([
    { workload: 'p3', ready: true, pending: '' },
  ]);
  expect(await gets(p3, p1)).toEqual(NOTHING);
  expect(await gets(p1, p3)).toEqual(NOTHING);
  const p4 = await ledger(n3, 'p4');
  expect(await gets(p4, p2)).toEqual(NOTHING);
  const [gateway = ''] = (await n3.status()).networks[0]?.gateways ?? [];
  expect(await gets(p3, p1, gateway, n3.router('red'))).toEqual(NOTHING);
  expect(await gets(p1, p2)).toMatchObject({ received: 2 });
});

test('a registry that is gone changes nothing, over an agent that is started again, and what is new waits for it', async () => {
  await domain.stopRegistry();
  await n1.agent.stop('SIGKILL');
  await n1.start();
  expect(await p1.reaches(p2.v4('red'))).toBe(true);
  expect(await gets(p3, p1)).toEqual(NOTHING);
  const late = await n1.pod('late');
  const asked = await n1.tryVl3(
    'attach',
    '--netns',
    late.host.netns,
    '--network',
    'red',
    '--name',
    'late',
    ...LEDGER,
    '--wait',
    '1s',
  );
  expect(asked.code).toBe(5);
  expect(asked.stderr).toMatch(/pending/);
  await domain.startRegistry();
  await vi.waitFor(async () => expect(await pendingOn(n1, 'late')).toBe(''), SOON);
  await vi.waitFor(async () => expect((await ping(late.host, p2.v4('red'))).received).toBe(1), SOON);
});

test('everyone is admitted again by the home rule, the rogue too', async () => {
  await rule('home');
  await vi.waitFor(
    async () => expect(await allowed(n1, 'n3')).toEqual((await n3.status()).networks[0]?.prefixes),
    SOON,
  );
  expect(await p3.reaches(p1.v4('red'))).toBe(true);
});
