// T4: a partner's node that announces a prefix or a name that is not its own is refused and logged, and takes nothing from anybody.
// What a registry tells of identities outside their domain is refused by each node: test/native-free/registry/record-book.test.ts.

import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { fromSources } from '../lab/program.ts';

const LIAR = resolve(import.meta.dirname, 'lying-partner.ts');
const lying = (...args: string[]): string[] => {
  const [node = '', ...rest] = fromSources(...args);
  return [node, '--import', LIAR, ...rest];
};

const PARTNER = 'partner.example';
const RED = 'red@test.example';

let home: Domain;
let partner: Domain;
let h1: Node;
let h2: Node;
/** Claims what h1 leases. */
let thief: Node;
/** Calls its workload as h1's is called. */
let namesake: Node;
let red1: Pod;
let red2: Pod;

const lease = async (node: Node): Promise<string> => (await node.status()).networks[0]?.prefixes[0] ?? '';

beforeAll(async () => {
  home = await Domain.start();
  partner = await home.partner(PARTNER);
  await home.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  [h1, h2] = await Promise.all([home.startNode('h1'), home.startNode('h2')]);
  [red1, red2] = await Promise.all([h1.pod('red1', 'red'), h2.pod('red2', 'red')]);
  await home.meet('red', [h1, h2]);
  await home.admin('admission', 'create', '--network', 'red', '--from', PARTNER);
  await home.federate(partner, '--network', 'red', '--name', 'billing');
  const program = lying;
  [thief, namesake] = await Promise.all([
    partner.startNode('thief', { program, env: { VL3_TEST_LIE: await lease(h1) } }),
    partner.startNode('namesake', { program, env: { VL3_TEST_LIE: 'names' } }),
  ]);
}, 120_000);

afterAll(() => home?.close());

/** Asks for red, once it may; what comes of it is for later. */
const ask = async (node: Node, pod: string, name = pod): Promise<void> => {
  const { host } = await node.pod(pod);
  await vi.waitFor(async () => {
    const { stderr } = await node.tryVl3(
      ...['attach', '--netns', host.netns, '--network', RED, '--name', name, '--wait', '1s'],
    );
    expect(stderr).not.toMatch(/not federated|with whom it is federated/);
  }, SOON);
};

const refusedAtHome = (pattern: RegExp) =>
  vi.waitFor(
    () =>
      expect(home.registryLog()).toContainEqual(
        expect.objectContaining({ msg: 'call refused', reason: expect.stringMatching(pattern) }),
      ),
    SOON,
  );

test('a prefix of another is refused and logged, its owner keeps it, and the thief is nobody’s peer', async () => {
  await ask(thief, 'stolen');
  await refusedAtHome(/prefix|lease/);
  const [log] = home.registryLog().filter(({ method }) => method === 'vl3.v1.AgentService/PutRecord');
  expect(log).toMatchObject({ role: 'foreign-node', caller: 'thief@partner.example' });
  for (const node of [h1, h2])
    expect((await node.status()).networks[0]?.peers.map((peer) => peer.node)).not.toContain(
      'thief@partner.example',
    );
  const why = /did not take what this node announced/;
  await vi.waitFor(async () => expect((await thief.status()).problems.join()).toMatch(why), SOON);
  expect(await red2.reaches(red1.v4('red'))).toBe(true);
});

test('a name that its domain was not given is refused and logged, and leads to whom it led', async () => {
  await ask(namesake, 'false', 'red1');
  await refusedAtHome(/"red1" is no name for workloads of partner\.example/);
  const [gateway = ''] = (await h2.status()).networks[0]?.gateways ?? [];
  await vi.waitFor(async () => {
    const { stdout } = await red2.host.tryRun(['dig', '+short', `@${gateway}`, 'red1.red.vl3']);
    expect(stdout.trim()).toBe(red1.v4('red'));
  }, SOON);
});

test('what it was given is announced and found', async () => {
  const honest = await partner.startNode('honest');
  await ask(honest, 'ledger', 'ledger.billing');
  const address = await vi.waitFor(async () => {
    const [one] = await new LocalClient(honest.socket).attachments();
    expect(one).toMatchObject({ ready: true });
    return one?.addresses[0] ?? '';
  }, SOON);
  const [gateway = ''] = (await h2.status()).networks[0]?.gateways ?? [];
  await vi.waitFor(async () => {
    const { stdout } = await red2.host.tryRun(['dig', '+short', `@${gateway}`, 'ledger.billing.red.vl3']);
    expect(stdout.trim()).toBe(address);
  }, SOON);
});
