// Rules of admission at a registry that lost its memory or was set back.

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readGrant } from '../../../native-free/admission/grant.ts';
import { backupStopped } from '../../../src/registry/backup-file.ts';
import { connectAdmission } from '../../../src/registry/client.ts';
import { restoreStore } from '../../../src/registry/restore.ts';
import { eventually } from '../../lab/eventually.ts';
import { red, refusal, startDomain, type TestDomain, type TestNode, temporaryDirectory } from './fixture.ts';

const soon = (check: () => Promise<void>) => eventually(check, { timeout: 30_000, interval: 50 });

const admissionOf = async (domain: TestDomain) => {
  const connection = await connectAdmission(join(domain.stateDirectory, 'admin.json'));
  onTestFinished(() => connection[Symbol.asyncDispose]());
  return connection.client;
};

const pod = (id: string, address: string, app: string) => ({
  id,
  workload: app,
  addresses: [address],
  interfaceName: 'red',
  labels: { app },
});

const put = ({ client }: TestNode, ...attachments: ReturnType<typeof pod>[]) =>
  client.putAttachments({ network: 'red', attachments });

const grantOf = async ({ client, name }: TestNode) => {
  for await (const { step } of client.watchNetwork({ network: 'red' })) {
    if (step.case !== 'snapshot') continue;
    const bytes = step.value.nodes.find(({ node }) => node === name)?.grant?.record;
    return bytes && readGrant(bytes);
  }
  return undefined;
};

/** Restricted to the ledger, and that attached. */
const world = async () => {
  const domain = await startDomain({ progressMs: 50 });
  await (await domain.admin()).createNetwork({ network: red });
  const node = await domain.enrol('n1');
  const joined = await node.client.joinNetwork({ network: 'red' });
  const admission = await admissionOf(domain);
  await admission.createAdmissionRule({
    rule: { network: 'red', name: 'ledger', labels: { app: 'ledger' } },
  });
  await admission.deleteAdmissionRule({ network: 'red', name: 'home' });
  await put(node, pod('a', '10.60.0.9', 'ledger'));
  await soon(async () => expect((await grantOf(node))?.addresses).toEqual(['10.60.0.9']));
  const holding = {
    network: joined.network && { ...joined.network, isRestricted: true },
    leases: joined.leases,
  };
  return {
    domain,
    node,
    holdings: holding.network === undefined ? [] : [{ ...holding, network: holding.network }],
  };
};

test('restored, it has the rules of its backup, takes nobody off before it knows what nodes hold, and grants anew', async () => {
  const { domain, node, holdings } = await world();
  const before = await grantOf(node);
  await domain.stop();
  const backup = join(temporaryDirectory(), 'backup.db');
  const storeFile = join(domain.stateDirectory, 'store.db');
  await backupStopped(storeFile, { file: backup, force: false, onProgress: () => {} });
  await domain.start();
  const late = await admissionOf(domain);
  await late.createAdmissionRule({ rule: { network: 'red', name: 'web', labels: { app: 'web' } } });
  expect((await put(node, pod('a', '10.60.0.9', 'ledger'), pod('b', '10.60.0.10', 'web'))).refused).toEqual(
    [],
  );
  await domain.stop();
  await restoreStore({ stateDirectory: domain.stateDirectory, file: backup, force: true, now: Date.now() });
  await domain.start();
  // Of the rule that admitted b nothing is known any more: that is no reason to end it now.
  const told = [pod('a', '10.60.0.9', 'ledger'), pod('b', '10.60.0.10', 'web')];
  expect(await refusal(put(node, ...told))).toMatch(/^unavailable: the registry lost its memory/);
  await node.client.renewLeases({ holdings });
  const admin = await domain.admin();
  await admin.settleRegistry({});
  expect((await put(node, ...told)).refused.map(({ id }) => id)).toEqual(['b']);
  await soon(async () => {
    const after = await grantOf(node);
    expect(after).toMatchObject({ addresses: ['10.60.0.9'] });
    expect(after?.storeId).not.toBe(before?.storeId);
    expect(after?.sequence).toBeGreaterThan(before?.sequence ?? 0);
  });
});

describe('whose clock was ahead, it grants anew what holds now once the clock is set', () => {
  const days = 10 * 24 * 60 * 60 * 1000;
  const soundAgain = async (node: TestNode, before: Awaited<ReturnType<typeof grantOf>>) => {
    const after = await grantOf(node);
    expect(after?.notBefore).toBeLessThan(Date.now());
    expect(after?.notAfter).toBeLessThan(Date.now() + days);
    expect(after?.sequence).toBeGreaterThan(before?.sequence ?? 0);
  };

  test('by its next start', async () => {
    const { domain, node } = await world();
    const before = await grantOf(node);
    for (const ahead of [days, 0]) {
      await domain.stop();
      domain.clockAheadMs = ahead;
      await domain.start();
    }
    await soon(() => soundAgain(node, before));
  });

  test('by itself, with what changes next', async () => {
    const { domain, node } = await world();
    const admission = await admissionOf(domain);
    domain.clockAheadMs = days;
    await admission.createAdmissionRule({ rule: { network: 'red', name: 'n1', node: 'n1' } });
    // What was granted then is stored before the clock is set.
    await admission.createAdmissionRule({ rule: { network: 'red', name: 'n2', node: 'n2' } });
    domain.clockAheadMs = 0;
    await soon(async () => expect((await grantOf(node))?.isWhole).toBe(true));
    const before = await grantOf(node);
    await admission.deleteAdmissionRule({ network: 'red', name: 'n1' });
    await soon(async () => expect((await grantOf(node))?.isWhole).toBe(false));
    await soundAgain(node, before);
  });
});

test('emptied, it cuts nobody off, and says which rules it has lost', async () => {
  const { domain, node, holdings } = await world();
  await domain.stop();
  for (const file of readdirSync(domain.stateDirectory).filter((name) => name.startsWith('store.db')))
    rmSync(join(domain.stateDirectory, file));
  await domain.start();
  await node.client.renewLeases({ holdings });
  const admin = await domain.admin();
  expect((await admin.getStatus({})).recovery?.conflicts).toEqual([
    expect.stringMatching(/^node "n1": network "red" admitted by rules that this registry has lost/),
  ]);
  expect((await put(node, pod('a', '10.60.0.9', 'ledger'))).refused).toEqual([]);
});
