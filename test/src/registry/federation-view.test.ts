// What a partner's node is told of a network that it came to: everybody while something of it is admitted there, and else
// itself alone, whatever it asks.

import { expect, onTestFinished, test } from 'vitest';
import type { NetworkDelta, NetworkSnapshot } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import type { AgentClient } from '../../../src/registry/client.ts';
import {
  abroad,
  admit,
  type Companies,
  companies,
  federate,
  recordOf,
  snapshot,
  until,
} from './companies.ts';
import { refusal, type TestNode } from './fixture.ts';

const FOREIGN = 'n1@partner.example';

interface Watched {
  /** Everybody that was named since, in whatever way. */
  readonly named: Set<string>;
  position: { storeId: string; afterRevision: bigint; stamp: Uint8Array };
}

/** Watches until the test is over, as one who does not care what is admitted. */
const watching = (client: AgentClient, from: Partial<Watched['position']> = {}): Watched => {
  const stop = new AbortController();
  const named = new Set<string>();
  const watched: Watched = {
    named,
    position: { storeId: '', afterRevision: 0n, stamp: new Uint8Array(), ...from },
  };
  const take = ({ nodes, tombstones }: NetworkSnapshot | NetworkDelta): void => {
    for (const { node } of [...nodes, ...tombstones]) named.add(node);
  };
  const follow = async (): Promise<void> => {
    const options = { signal: stop.signal };
    for await (const { storeId, revision, stamp, step } of client.watchNetwork(
      { network: 'red', ...watched.position },
      options,
    )) {
      if (step.case === 'snapshot' || step.case === 'delta') take(step.value);
      watched.position = { storeId, afterRevision: revision, stamp };
    }
  };
  const done = follow().catch(() => {});
  onTestFinished(async () => {
    stop.abort();
    await done;
  });
  return watched;
};

const attached = { id: 'a', workload: 'ledger', addresses: ['10.60.1.5'], interfaceName: 'red' };

const joinHome = async ({ home }: Pick<Companies, 'home'>, name: string, key: number): Promise<TestNode> => {
  const node = await home.enrol(name);
  const joined = await node.client.joinNetwork({ network: 'red' });
  await node.client.putRecord({ network: 'red', record: recordOf(node, joined, { key }) });
  return node;
};

/** Resolves once a watcher has been told everything up to now. */
const caughtUp = async ({ home }: Pick<Companies, 'home'>, watched: Watched): Promise<void> => {
  const { store } = home.registry.observed.context;
  const { revision } = await store.read([]);
  await until(() => watched.position.afterRevision >= BigInt(revision) || undefined);
};

test('a partner whose rule went away sees nobody on the network any more, however it goes on watching', async () => {
  const both = await companies({ progressMs: 50 });
  await federate(both);
  await admit(both.home);
  const first = await joinHome(both, 'first', 11);
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  const joined = await client.joinNetwork({ network: 'red' });
  // Before anything of it is admitted.
  expect((await snapshot(client)).nodes.map(({ node: name }) => name)).toEqual([FOREIGN]);
  const early = watching(client);
  await client.putRecord({ network: 'red', record: recordOf(node, joined) });
  await client.putAttachments({ network: 'red', attachments: [attached] });
  // What it is admitted to it is told by the watch that it has.
  await until(() => early.named.has('first') || undefined);
  expect((await snapshot(client)).nodes.find(({ node: name }) => name === 'first')?.record).toBeDefined();

  const admission = await both.home.admission();
  await admission.deleteAdmissionRule({ network: 'red', name: 'partner' });
  await until(async () => {
    const { nodes } = await snapshot(client);
    return nodes.length === 1 ? nodes : undefined;
  });
  const during = { ...early.position };
  early.named.clear();
  // A node has four watches at most; snapshots take one as well.
  const resumed = watching(client, during);
  const fromTheStart = watching(client, { ...during, afterRevision: 1n });
  // Who comes, changes and goes.
  const second = await joinHome(both, 'second', 12);
  await first.client.heartbeat({});
  await second.client.leaveNetwork({ network: 'red' });
  await joinHome(both, 'third', 13);
  for (const watched of [early, resumed, fromTheStart]) {
    await caughtUp(both, watched);
    expect([...watched.named].filter((name) => name !== FOREIGN)).toEqual([]);
  }
  const { nodes, tombstones } = await snapshot(client);
  expect([nodes.map(({ node: name }) => name), tombstones]).toEqual([[FOREIGN], []]);
  // What it announces all the same changes nothing.
  const again = recordOf(node, joined, { sequence: 2 });
  await refusal(client.putRecord({ network: 'red', record: again }));
  const { refused } = await client.putAttachments({ network: 'red', attachments: [attached] });
  expect(refused).toHaveLength(1);
  expect((await snapshot(client)).nodes).toHaveLength(1);

  // Admitted again it is told what it missed, whether it went on watching or comes back with where it stood.
  const before = { ...early.position };
  await admit(both.home);
  await client.putAttachments({ network: 'red', attachments: [attached] });
  await until(() => (early.named.has('third') && early.named.has('first')) || undefined);
  expect(early.named.has('second')).toBe(true);
  const back = watching(client, before);
  await until(() => (back.named.has('third') && back.named.has('first')) || undefined);
});

test('a partner’s node learns of nobody by claiming prefixes or showing keys that are others’', async () => {
  const both = await companies();
  await federate(both);
  await admit(both.home);
  const secretive = await joinHome(both, 'secretive', 11);
  const { leases: theirs } = await secretive.client.joinNetwork({ network: 'red' });
  const node = await both.partner.enrol('n1');
  const client = abroad(both, node);
  const joined = await client.joinNetwork({ network: 'red' });
  const { network, leases } = joined;
  const { answers } = await client.renewLeases({
    holdings: [{ ...(network && { network }), leases: [...leases, ...theirs] }],
  });
  const said = answers.slice(leases.length).map(({ reason }) => reason);
  expect(said).toHaveLength(theirs.length);
  expect(said.join()).not.toMatch(/secretive/);
  const copied = recordOf(node, joined, { key: 11 });
  expect(await refusal(client.putRecord({ network: 'red', record: copied }))).toMatch(
    /^permission-denied: record: its public key is another node's/,
  );
  const local = await joinHome(both, 'local', 12);
  const again = recordOf(local, await local.client.joinNetwork({ network: 'red' }), { key: 11, sequence: 2 });
  expect(await refusal(local.client.putRecord({ network: 'red', record: again }))).toMatch(
    /is node "secretive"'s/,
  );
});

test('a node of the domain sees who is on its networks, whether anything of it is admitted or not', async () => {
  const both = await companies();
  await joinHome(both, 'first', 11);
  const admission = await both.home.admission();
  await admission.deleteAdmissionRule({ network: 'red', name: 'home' });
  const second = await joinHome(both, 'second', 12);
  expect((await snapshot(second.client)).nodes.map(({ node }) => node).sort()).toEqual(['first', 'second']);
});
