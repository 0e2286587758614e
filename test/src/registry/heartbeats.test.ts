import { expect, test } from 'vitest';
import { startDomain } from './fixture.ts';

test('whoever floods with heartbeats, each of another version, has nothing written for them', async () => {
  const domain = await startDomain({ livenessTtlMs: 1_200_000 });
  const admin = await domain.admin();
  const { client } = await domain.enrol('a');
  await client.heartbeat({ agentVersion: 'first' });
  const { revision } = await admin.getStatus({});
  for (let i = 0; i < 20; i++) await client.heartbeat({ agentVersion: `v${i}` });
  expect((await admin.getStatus({})).revision).toBe(revision);
  expect((await admin.getNode({ name: 'a' })).node).toMatchObject({ alive: true, agentVersion: 'first' });
});
