// T3, between two companies: a partner without a rule reaches nothing, admitted to red it reaches red and that alone, and what is
// revoked ends within seconds, whatever the partner's agents do. N3 and N5 with a partner's network beside one's own.

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

/** An agent that ignores every refusal, every detach and every end of a federation. */
const rogue = (...args: string[]): string[] => {
  const [node = '', ...rest] = fromSources(...args);
  return [node, '--import', ROGUE, ...rest];
};

const PARTNER = 'partner.example';
const RED = 'red@test.example';
const LEDGER = ['--namespace', 'billing', '--service-account', 'payer', '--label', 'app=ledger'];
const WORKLOAD = 'namespace == "billing" && serviceAccount == "payer" && labels.app == "ledger"';

let home: Domain;
let partner: Domain;
let h1: Node;
let h2: Node;
let p1: Node;
/** Whose agent ignores everything. */
let p2: Node;
let red1: Pod;
let red2: Pod;
/** Of home, on red and on blue. */
let blue: Pod;
let ledger: Pod;

beforeAll(async () => {
  home = await Domain.start();
  partner = await home.partner(PARTNER);
  await home.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await home.createNetwork('blue', '--pool-v4', '10.61.0.0/16');
  await partner.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  // The same addresses as home's red: they meet on no pod.
  await partner.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  [h1, h2, p1, p2] = await Promise.all([
    home.startNode('h1'),
    home.startNode('h2'),
    partner.startNode('p1'),
    partner.startNode('p2', { program: rogue }),
  ]);
  [red1, red2, blue] = await Promise.all([
    h1.pod('red1', 'red'),
    h2.pod('red2', 'red'),
    h2.pod('blue', 'red', 'blue'),
  ]);
  await home.meet('red', [h1, h2]);
  await home.federate(partner, '--network', 'red');
  ledger = await p1.pod('ledger');
  for (const node of [p1, p2])
    await vi.waitFor(async () => expect((await node.status()).federations).toHaveLength(1), SOON);
}, 180_000);

afterAll(() => home?.close());

const rule = (...args: string[]) => home.admin('admission', 'create', '--network', 'red', ...args);
const unrule = (name: string) =>
  home.command('admission', 'delete', name, '--network', 'red', '--admin', home.adminFile);

const attach = (node: Node, pod: Pod, network: string, ...options: string[]) =>
  node.tryVl3(
    'attach',
    '--netns',
    pod.host.netns,
    '--network',
    network,
    '--name',
    pod.name,
    '--wait',
    '1s',
    ...options,
  );

/** What it is refused with, or waits for; a busy agent knows that only once it has been asked again. */
const denied = async (node: Node, pod: Pod, network: string, why: RegExp, ...options: string[]) =>
  await vi.waitFor(async () => {
    const result = await attach(node, pod, network, ...options);
    expect(result.stderr).toMatch(why);
    return result;
  }, SOON);

const pendingOn = async (node: Node, workload: string, network = RED): Promise<string> =>
  (await new LocalClient(node.socket).attachments()).find(
    (one) => one.workload === workload && one.network === network,
  )?.pending ?? 'there is none';

/** What a node lets another have. */
const allowed = async (node: Node, network: string, other: string): Promise<readonly string[]> => {
  const { networks } = await node.status();
  return (
    networks.find(({ name }) => name === network)?.peers.find((peer) => peer.node === other)?.prefixes ?? []
  );
};

const attached = async (node: Node, pod: Pod, network = RED): Promise<void> => {
  await vi.waitFor(async () => {
    const found = (await new LocalClient(node.socket).attachments()).find(
      (one) => one.workload === pod.name && one.network === network,
    );
    expect(found).toMatchObject({ ready: true, pending: '' });
    if (found !== undefined) pod.attached(found);
  }, SOON);
};

/** How much of what is sent gets in to the pod, and is answered? */
const gets = async (from: Pod, to: Pod, target: string, source: string, sender = from.host) => {
  const capture = await Capture.start(to.host, 'red', ['src', 'host', source]);
  const { received } = await ping(sender, target, { count: 2, wait: 1, source });
  return { received, arrived: (await capture.stop()).length };
};
const NOTHING = { received: 0, arrived: 0 };

const hostPrefix = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;

test('a partner without a rule is told so, and reaches nothing', async () => {
  const why = /no admission rule of network "red" could admit anything of its node "p1"/;
  expect((await denied(p1, ledger, RED, why, ...LEDGER)).code).not.toBe(0);
  expect(await allowed(h1, 'red', 'p1@partner.example')).toEqual([]);
});

test('a network that the federation does not name, and a domain that is none, are refused', async () => {
  const unnamed = /network "blue" is not among those of the federation with partner\.example/;
  await denied(p1, ledger, 'blue@test.example', unnamed);
  const none = /"nobody\.example" is not federated with this domain, partner\.example/;
  await denied(p1, ledger, 'red@nobody.example', none);
});

test('admitted to red its workload reaches red, by the addresses that were admitted and by no others', async () => {
  await rule('ledger', '--from', PARTNER, '--workload', WORKLOAD);
  const why = /no admission rule of network "red" admits "ledger" \(node "p1" of partner\.example\)/;
  await denied(p1, ledger, RED, why, '--label', 'app=ledger');
  await p1.vl3('detach', '--netns', ledger.host.netns, '--network', RED);
  await attach(p1, ledger, RED, ...LEDGER);
  await attached(p1, ledger);
  await vi.waitFor(
    async () =>
      expect(await allowed(h1, 'red', 'p1@partner.example')).toEqual(
        ledger.on(RED).addresses.map(hostPrefix).sort(),
      ),
    SOON,
  );
  expect(await ledger.reaches(red1.v4('red'))).toBe(true);
  expect(await ledger.reaches(red2.v6('red'))).toBe(true);
  expect(await red1.reaches(ledger.v4(RED))).toBe(true);
});

test('status and network show say who is of another domain, and what is restricted', async () => {
  await vi.waitFor(async () => {
    const { networks, federations, problems } = await p1.status();
    expect(networks).toMatchObject([
      { name: RED, home: 'test.example', isForeign: true, isRestricted: true, state: 'up' },
    ]);
    expect(federations).toMatchObject([
      { trustDomain: 'test.example', networks: [RED], isConnected: true, problem: '' },
    ]);
    expect(problems).toEqual([]);
    const [peer] = (await h1.status()).networks[0]?.peers.filter(({ isForeign }) => isForeign) ?? [];
    expect(peer).toMatchObject({ node: 'p1@partner.example', problem: '' });
    expect(await home.adminJson('network', 'show', 'red')).toMatchObject({
      rules: [
        { name: 'home', trustDomain: 'test.example' },
        { name: 'ledger', trustDomain: PARTNER },
      ],
      foreign: [{ workload: 'ledger', node: 'p1@partner.example', rule: 'ledger' }],
    });
    expect(await p1.vl3('status')).toMatch(
      /partner test\.example: connected.*networks red@test\.example[\s\S]*network red@test\.example: up, admitted by the rules of test\.example/,
    );
  }, SOON);
});

test('names of the home are found by the partner, below the domain', async () => {
  const [gateway = ''] = (await p1.status()).networks[0]?.gateways ?? [];
  await vi.waitFor(async () => {
    const { stdout } = await ledger.host.tryRun([
      'dig',
      '+short',
      '+time=1',
      '+tries=1',
      `@${gateway}`,
      'red1.red.test.example.at.vl3',
    ]);
    expect(stdout.trim()).toBe(red1.v4('red'));
  }, SOON);
});

test('it reaches red only: no other network of home, not through a pod that is on both, and no address that is not its own', async () => {
  const [gateway = ''] = (await p1.status()).networks[0]?.gateways ?? [];
  await ledger.host.ip(`route add 10.61.0.0/16 via ${gateway} dev red`);
  await blue.host.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  expect((await ping(ledger.host, blue.v4('blue'), { count: 2, wait: 1 })).received).toBe(0);
  await ledger.host.ip('route del 10.61.0.0/16');
  const source = red2.v4('red');
  expect(await gets(ledger, red1, red1.v4('red'), source, p1.router(RED))).toEqual(NOTHING);
  expect(await gets(ledger, red1, red1.v4('red'), gateway, p1.router(RED))).toEqual(NOTHING);
});

test('N3: a pod on a partner’s network and on one of its own company routes between them for nobody', async () => {
  const green = await p1.pod('green', 'green');
  await p1.attach(ledger, 'green');
  await ledger.host.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  expect(await ledger.reaches(green.v4('green'))).toBe(true);
  const [gateway = ''] = (await h1.status()).networks[0]?.gateways ?? [];
  await red1.host.ip(`route add 10.70.0.0/16 via ${gateway} dev red`);
  expect((await ping(red1.host, green.v4('green'), { count: 2, wait: 1 })).received).toBe(0);
  await red1.host.ip('route del 10.70.0.0/16');
});

test('N5: the same pool at home and at the partner is refused where it would meet on one pod, and only there', async () => {
  const why =
    /pool 10\.60\.0\.0\/16 overlaps 10\.60\.0\.0\/16 on interface red, which the pod reaches by another vl3 network/;
  expect((await denied(p1, ledger, 'red', why, '--interface', 'own')).code).toBe(1);
  const own = await p1.pod('own', 'red');
  expect(own.v4('red')).toMatch(/^10\.60\./);
  expect(await ledger.reaches(red1.v4('red'))).toBe(true);
  expect((await ping(own.host, red1.v4('red'), { count: 2, wait: 1, source: own.v4('red') })).received).toBe(
    0,
  );
});

test('the partner’s own registry is not needed for it, nor over a restart, and home’s may be gone as well', async () => {
  await partner.stopRegistry();
  await p1.agent.stop('SIGKILL');
  await p1.start();
  expect(await ledger.reaches(red1.v4('red'))).toBe(true);
  const late = await p1.pod('late');
  await attach(p1, late, RED, ...LEDGER);
  await attached(p1, late);
  expect(await late.reaches(red2.v4('red'))).toBe(true);
  await home.stopRegistry();
  await p1.agent.stop('SIGKILL');
  await p1.start();
  await h1.agent.stop('SIGKILL');
  await h1.start();
  expect(await ledger.reaches(red1.v4('red'))).toBe(true);
  await Promise.all([home.startRegistry(), partner.startRegistry()]);
});

test('a rule taken away ends what it admitted, and an agent that ignores that gains nothing', async () => {
  const bad = await p2.pod('bad');
  await attach(p2, bad, RED, ...LEDGER);
  await attached(p2, bad);
  expect(await bad.reaches(red1.v4('red'))).toBe(true);
  await rule('honest', '--from', PARTNER, '--workload', `node == "p1" && ${WORKLOAD}`);
  await unrule('ledger');
  await vi.waitFor(async () => expect(await allowed(h1, 'red', 'p2@partner.example')).toEqual([]), SOON);
  await vi.waitFor(async () => expect(await allowed(h2, 'red', 'p2@partner.example')).toEqual([]), SOON);
  expect(await pendingOn(p2, 'bad')).toBe('');
  expect(await gets(bad, red1, red1.v4('red'), bad.v4(RED))).toEqual(NOTHING);
  expect(await ledger.reaches(red1.v4('red'))).toBe(true);
});

test('a federation that is revoked ends on both sides, and only it; the agent that ignores it reaches nothing', async () => {
  await rule('everybody', '--from', PARTNER);
  const bad = await p2.pod('worse');
  await attach(p2, bad, RED, ...LEDGER);
  await attached(p2, bad);
  expect(await bad.reaches(red2.v4('red'))).toBe(true);
  await home.admin('federation', 'revoke', PARTNER);
  await vi.waitFor(async () => {
    for (const node of [h1, h2])
      for (const other of ['p1@partner.example', 'p2@partner.example'])
        expect(await allowed(node, 'red', other)).toEqual([]);
    expect(await pendingOn(p1, 'ledger')).not.toBe('');
  }, SOON);
  expect((await ledger.host.tryRun(['ip', 'link', 'show', 'red'])).code).not.toBe(0);
  const peers = async () => (await h1.status()).networks[0]?.peers.map(({ node }) => node);
  await vi.waitFor(async () => expect(await peers()).toEqual(['h2']), SOON);
  expect(await gets(bad, red2, red2.v4('red'), bad.v4(RED))).toEqual(NOTHING);
  expect(await red1.reaches(red2.v4('red'))).toBe(true);
  await vi.waitFor(async () => expect((await h1.status()).federations).toEqual([]), SOON);
  expect((await h1.status()).problems).toEqual([]);
}, 60_000);

test('federated anew, what waits is attached again', async () => {
  await home.federate(partner, '--network', 'red');
  await attached(p1, ledger);
  expect(await ledger.reaches(red1.v4('red'))).toBe(true);
}, 60_000);

test('revoked and federated anew before its nodes have heard of either, what was attached comes back', async () => {
  await home.admin('federation', 'revoke', PARTNER);
  await home.federate(partner, '--network', 'red');
  await vi.waitFor(async () => {
    await attached(p1, ledger);
    expect((await ping(ledger.host, red1.v4('red'))).received).toBe(1);
  }, SOON);
}, 60_000);

test('revoked by the partner’s own admin, its nodes leave, and believe home no more', async () => {
  await partner.admin('federation', 'revoke', 'test.example');
  await vi.waitFor(async () => {
    const { networks, federations } = await p1.status();
    expect(networks.filter(({ isForeign }) => isForeign)).toEqual([]);
    expect(federations).toEqual([]);
  }, SOON);
  expect(await pendingOn(p1, 'ledger')).toMatch(/not federated|was revoked/);
  expect((await ledger.host.tryRun(['ip', 'link', 'show', 'red'])).code).not.toBe(0);
}, 60_000);
