// When an agent says that it is ready: each reason by itself. That it says so of real networks is in
// test/scenarios/metrics.test.ts.

import { expect, test } from 'vitest';
import {
  AgentReadiness,
  type ReadinessParts,
  type ReadyNetwork,
} from '../../../src/metrics/agent-readiness.ts';

const network = (other: Partial<ReadyNetwork> = {}): ReadyNetwork => ({
  openedAt: 0,
  hasListed: true,
  registryProblems: [],
  peers: { unreached: 0 },
  router: { problem: '' },
  ...other,
});

const of = (red: ReadyNetwork | undefined, other: Partial<ReadinessParts> = {}): AgentReadiness =>
  new AgentReadiness({
    port: () => 51820,
    saved: () => ['red'],
    pending: () => undefined,
    open: () => red,
    isRegistryAway: () => false,
    unseen: () => [],
    health: async () => [],
    now: () => 1_000,
    ...other,
  });

test('an agent is ready when its networks carry packets and the registry has said who is on them', async () => {
  expect(await of(network()).problems()).toEqual([]);
});

test.each<[string, AgentReadiness, RegExp]>([
  ['whose port is not open', of(network(), { port: () => 0 }), /^the UDP port is not open$/],
  ['whose network is being opened', of(undefined), /^network red is not open: it is being opened$/],
  [
    'whose network cannot be opened',
    of(undefined, { pending: () => 'no room' }),
    /^network red is not open: no room$/,
  ],
  [
    'whose TUN is gone',
    of(network({ router: { problem: 'the TUN was removed' } })),
    /^network red: the TUN was removed$/,
  ],
  ['whose packet threads hang', of(network(), { health: async () => ['they hang'] }), /^they hang$/],
  ['that has not seen its pods', of(network(), { unseen: () => ['no pods yet'] }), /^no pods yet$/],
  [
    'that calls those it talked to',
    of(network({ peers: { unreached: 2 } })),
    /^network red: 2 of the nodes that it talked to have not answered yet$/,
  ],
  [
    'that the registry has told nothing',
    of(network({ hasListed: false })),
    /^network red: the registry has not said yet who is on it$/,
  ],
])('one %s is not', async (_, readiness, sentence) => {
  expect(await readiness.problems()).toEqual([expect.stringMatching(sentence)]);
});

test('a registry that is away, or does not tell of the network, is not waited for', async () => {
  const untold = network({ hasListed: false });
  expect(await of(untold, { isRegistryAway: () => true }).problems()).toEqual([]);
  expect(await of(network({ hasListed: false, registryProblems: ['it is full'] })).problems()).toEqual([]);
});

test('a node that is gone is waited for a while only', async () => {
  let now = 0;
  const readiness = of(network({ peers: { unreached: 1 } }), { now: () => now });
  expect(await readiness.problems()).toHaveLength(1);
  now = 10_001;
  expect(await readiness.problems()).toEqual([]);
});

test('once ready, neither sessions that end nor a registry that is asked anew make it unready', async () => {
  const peers = { unreached: 0 };
  const state = { hasListed: true };
  const red = Object.defineProperties(network(), {
    peers: { get: () => peers },
    hasListed: { get: () => state.hasListed },
  });
  const readiness = of(red);
  expect(await readiness.problems()).toEqual([]);
  Object.assign(peers, { unreached: 3 });
  state.hasListed = false;
  expect(await readiness.problems()).toEqual([]);
});

test('a network that is opened anew has to get there anew', async () => {
  let red = network();
  const readiness = of(undefined, { open: () => red });
  expect(await readiness.problems()).toEqual([]);
  red = network({ peers: { unreached: 1 } });
  expect(await readiness.problems()).toHaveLength(1);
});
