// S1: `<pod>.<network>.vl3` and its PTR resolve on every node; they vanish on detach and with their node; nobody is served
// beyond his network.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

let domain: Domain;
let alpha: Node;
let beta: Node;
let web: Pod;
let client: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  [alpha, beta] = (await Promise.all(
    ['alpha', 'beta'].map((name) => domain.startNode(name, { networks: ['red'] })),
  )) as [Node, Node];
  await domain.meet('red');
  web = await alpha.pod('web', 'red');
  client = await beta.pod('client', 'red');
}, 120_000);

afterAll(() => domain?.close());

/** What `vl3 status` calls its own address. */
const gateway = async (node: Node, network: string): Promise<string> => {
  const routes: { dst: string; gateway?: string }[] = JSON.parse(
    (await [web, client].find((pod) => pod.node === node)?.host.run(['ip', '-json', '-4', 'route'])) ?? '[]',
  );
  const found = routes.find((route) => route.gateway !== undefined)?.gateway;
  if (found === undefined) throw new Error(`a pod of ${node.name} has no gateway on ${network}`);
  return found;
};

interface Response {
  readonly status: string;
  readonly flags: string[];
  readonly answers: string[];
  readonly text: string;
}

/** Asks the gateway of the pod's node. */
const dig = async (pod: Pod, ...args: string[]): Promise<Response> => {
  const server = `@${await gateway(pod.node, 'red')}`;
  const text = await pod.host.run(['dig', '+tries=3', '+time=5', '+nosearch', server, ...args]);
  const section = /;; ANSWER SECTION:\n([^;]*)/.exec(text)?.[1] ?? '';
  return {
    status: /status: (\w+)/.exec(text)?.[1] ?? 'none',
    flags: (/;; flags: ([a-z ]*);/.exec(text)?.[1] ?? '').split(' '),
    answers: section
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split(/\s+/).slice(4).join(' '))
      .sort(),
    text,
  };
};

const resolves = (pod: Pod, question: string[], answers: string[]): Promise<void> =>
  eventually(async () => {
    const response = await dig(pod, ...question);
    expect(response.answers, response.text).toEqual(answers);
  }, SOON);

describe('names of workloads', () => {
  test('resolve on every node, v4 and v6, by UDP and TCP', async () => {
    for (const pod of [web, client])
      for (const transport of ['+notcp', '+tcp']) {
        await resolves(pod, [transport, 'web.red.vl3', 'A'], [web.v4('red')]);
        await resolves(pod, [transport, 'web.red.vl3', 'AAAA'], [web.v6('red')]);
        await resolves(pod, [transport, 'client.red.vl3', 'A'], [client.v4('red')]);
      }
  });

  test('are found by their addresses on every node', async () => {
    for (const pod of [web, client])
      for (const address of [web.v4('red'), web.v6('red')])
        await resolves(pod, ['-x', address], ['web.red.vl3.']);
  });

  test('that are not there are denied with authority, and for seconds only', async () => {
    const missing = await dig(client, 'nobody.red.vl3', 'A');
    expect(missing).toMatchObject({ status: 'NXDOMAIN', answers: [] });
    expect(missing.flags).toContain('aa');
    expect(missing.text).toMatch(/red\.vl3\.\s+2\s+IN\s+SOA/);
    expect(await dig(client, 'web.red.vl3', 'MX')).toMatchObject({ status: 'NOERROR', answers: [] });
  });

  test('of anybody else are refused at once', async () => {
    for (const name of ['www.example.com', 'web.green.vl3', 'vl3', '1.70.10.in-addr.arpa'])
      expect(await dig(client, name, 'A')).toMatchObject({ status: 'REFUSED', answers: [] });
  });

  test('are told to pods of the node alone', async () => {
    const elsewhere = await gateway(alpha, 'red');
    expect(await client.reaches(elsewhere)).toBe(true);
    const asked = ['dig', '+tries=1', '+time=2', `@${elsewhere}`, 'web.red.vl3'];
    expect((await client.host.tryRun(asked)).code).toBe(9);
    expect((await web.host.tryRun(asked)).code).toBe(0);
  });

  test('stay while the registry is gone, also over a restart of the agent', async () => {
    await domain.stopRegistry();
    await beta.agent.stop('SIGKILL');
    await beta.start();
    await resolves(client, ['web.red.vl3', 'A'], [web.v4('red')]);
    const late = await beta.pod('late', 'red');
    await resolves(client, ['late.red.vl3', 'A'], [late.v4('red')]);
    await domain.startRegistry();
    await resolves(web, ['late.red.vl3', 'A'], [late.v4('red')]);
  }, 120_000);

  test('vanish on detach, here and there', async () => {
    const brief = await alpha.pod('brief', 'red');
    await resolves(web, ['brief.red.vl3', 'A'], [brief.v4('red')]);
    await resolves(client, ['brief.red.vl3', 'A'], [brief.v4('red')]);
    await alpha.vl3('detach', '--network', 'red', '--netns', brief.host.netns);
    expect(await dig(web, 'brief.red.vl3', 'A')).toMatchObject({ status: 'NXDOMAIN' });
    await resolves(client, ['brief.red.vl3', 'A'], []);
    expect(await dig(client, '-x', brief.v4('red'))).toMatchObject({ status: 'NXDOMAIN' });
  }, 60_000);

  test('vanish with a node that is lost without goodbye, and come back with it', async () => {
    await alpha.agent.stop('SIGKILL');
    await eventually(
      async () => {
        expect(await dig(client, 'web.red.vl3', 'A')).toMatchObject({ status: 'NXDOMAIN' });
      },
      { ...SOON, timeout: 90_000 },
    );
    await alpha.start();
    await resolves(client, ['web.red.vl3', 'A'], [web.v4('red')]);
  }, 180_000);
});
