// An agent that was stopped, as on a machine that was suspended, for longer than its leases last: when it goes on it uses
// nothing that may be another's by now. The outage budget is a
// minute here.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

const BUDGET = ['--outage-budget', '60s'];

/** Seven sixths of the budget, and what a busy machine takes. */
const PAST_IT = { timeout: 150_000, interval: 250 };

let domain: Domain;
let stopped: Node;
let steady: Node;
let client: Pod;
let web: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await domain.startRegistry(...BUDGET);
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  stopped = await domain.startNode('stopped', { networks: ['red'] });
  steady = await domain.startNode('steady', { networks: ['red'] });
  client = await stopped.pod('client', 'red');
  web = await steady.pod('web', 'red');
  await domain.meet('red');
  expect(await client.reaches(web.v4('red'))).toBe(true);
}, 240_000);

afterAll(() => domain?.close());

test('an agent that was stopped for longer than its leases last takes down what it had first', async () => {
  process.kill(stopped.agent.pid, 'SIGSTOP');
  try {
    // Its record has ended, and with it its leases.
    await vi.waitFor(async () => {
      const { networks } = await steady.status();
      expect(networks.flatMap(({ peers }) => peers.map(({ node }) => node))).toEqual([]);
    }, PAST_IT);
    await domain.stopRegistry();
  } finally {
    process.kill(stopped.agent.pid, 'SIGCONT');
  }
  await vi.waitFor(async () => {
    expect(await new LocalClient(stopped.socket).attachments()).toEqual([
      expect.objectContaining({ workload: 'client', addresses: [], ready: false }),
    ]);
  }, SOON);
  expect(await client.host.run(['ip', '-o', 'link'])).not.toContain('red');
  const log = stopped.log();
  const at = (msg: string): number => log.findLastIndex((line) => line['msg'] === msg);
  expect(log[at('lease changed its phase')]).toMatchObject({
    phase: expect.stringMatching(/^(ending|ended)$/),
  });
  expect(log.slice(0, at('withdrawn')).some(({ msg }) => msg === 'this agent was away')).toBe(true);
}, 240_000);
