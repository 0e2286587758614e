import { expect, test } from 'vitest';
import { red, startDomain } from './fixture.ts';

test('two nodes that enrol join a network and see each other', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  const created = await admin.createNetwork({ network: red });
  expect(created.network).toMatchObject({ name: 'red', nodePrefixLengthV4: 24 });
  const a = await domain.enrol('a');
  const b = await domain.enrol('b');
  const { leases } = await a.client.joinNetwork({ network: 'red' });
  expect(leases.map(({ prefix }) => prefix)).toEqual(['10.60.0.0/24', 'fd00:60::/112']);
  await b.client.joinNetwork({ network: 'red' });
  const beat = await a.client.heartbeat({ agentVersion: '1' });
  expect(beat.observedAddress).toBe('127.0.0.1');
  const { nodes } = await admin.listNodes({});
  expect(nodes.map(({ name, alive, networks }) => ({ name, alive, networks }))).toEqual([
    { name: 'a', alive: true, networks: ['red'] },
    { name: 'b', alive: false, networks: ['red'] },
  ]);
});
