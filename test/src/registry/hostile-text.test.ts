// Text that nodes send, and what becomes of it: in answers, in the log, and on an admin's terminal.

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { RenewLeasesResponseSchema } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { red, refusal, startDomain } from './fixture.ts';

test('nothing long or unprintable that a node says of a network comes back, is logged or shown', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  await admin.createNetwork({ network: red });
  const { client } = await domain.enrol('loud');
  const { network, leases } = await client.joinNetwork({ network: 'red' });
  if (network === undefined) throw new Error('no network');
  const odd = { ...network, uid: `\u001b[2J${'x'.repeat(1_000_000)}` };
  const many = Array.from({ length: 64 }, (_, i) => ({ prefix: `10.60.${i}.0/24`, network: 'red' }));
  const before = domain.log.lines.length;
  const call = client.renewLeases({ holdings: [{ network: odd, leases: many as typeof leases }] });
  expect(await refusal(call)).toMatch(/^invalid-argument: holdings\[0\].network.uid/);
  expect(domain.log.lines.slice(before).join('').length).toBeLessThan(10_000);
});

test('a call that names many leases which are not renewed takes few lines of the log', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const { client } = await domain.enrol('loud');
  const { network, leases } = await client.joinNetwork({ network: 'red' });
  if (network === undefined) throw new Error('no network');
  const many = Array.from({ length: 64 }, (_, i) => ({ prefix: `10.60.${i}.0/24`, network: 'red' }));
  const holdings = Array.from({ length: 300 }, (_, i) => ({
    network: { ...network, name: `n${i}` },
    leases: many as typeof leases,
  }));
  const before = domain.log.lines.length;
  const answer = await client.renewLeases({ holdings });
  expect(answer.answers).toHaveLength(300 * 64);
  expect(toBinary(RenewLeasesResponseSchema, create(RenewLeasesResponseSchema, answer)).length).toBeLessThan(
    2 ** 22,
  );
  const said = domain.log.lines.slice(before);
  expect(said.length).toBeLessThan(40);
  expect(said.join('')).toContain('lease not renewed');
});

test('the version that an agent names is shown as printable characters', async () => {
  const domain = await startDomain();
  const { client } = await domain.enrol('odd');
  await client.heartbeat({ agentVersion: '1.2\u001b]0;pwned\u0007\u202e\n' });
  const { node } = await (await domain.admin()).getNode({ name: 'odd' });
  expect(node?.agentVersion).toBe('1.2?]0;pwned???');
  await client.heartbeat({ agentVersion: 'x'.repeat(1000) });
});

test('what an admin is told of a conflict holds no control characters', async () => {
  const domain = await startDomain();
  await (await domain.admin()).createNetwork({ network: red });
  const { client } = await domain.enrol('odd');
  const { network } = await client.joinNetwork({ network: 'red' });
  if (network === undefined) throw new Error('no network');
  await domain.stop();
  for (const file of readdirSync(domain.stateDirectory))
    if (file.startsWith('store.db')) rmSync(join(domain.stateDirectory, file));
  await domain.start();
  const odd = { ...network, excludedPrefixes: [`\u001b]0;pwned\u0007\n`] };
  await client.renewLeases({ holdings: [{ network: odd, leases: [] }] });
  const { recovery } = await (await domain.admin()).getStatus({});
  expect(recovery?.conflicts.join()).toContain('?]0;pwned??');
  expect(recovery?.conflicts.join()).toMatch(/^[\x20-\x7e]*$/);
});
