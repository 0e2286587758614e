import { beforeEach, expect, test } from 'vitest';
import { toBase64 } from '../../../native-free/base64.ts';
import { createAdmissionRule, deleteAdmissionRule } from '../../../native-free/registry/admission-rules.ts';
import { putAttachments } from '../../../native-free/registry/announcement-rules.ts';
import {
  type DueGrant,
  dueGrant,
  type Granting,
  keepGrant,
} from '../../../native-free/registry/granting-rules.ts';
import { leaveNetwork } from '../../../native-free/registry/lease-rules.ts';
import { attachment, beginAnew, enrolled, join, NOW, red, run } from './rules-world.ts';

beforeEach(beginAnew);

const home = 'home.example';
const by = { admin: 'admin', now: NOW, trustDomain: home };
const granting: Granting = { network: 'red', node: 'n1', trustDomain: home, storeId: 'store', leases: false };
const bounds = { termMs: 7 * 24 * 3_600_000, signsUntil: Number.POSITIVE_INFINITY };

const signed = ({ content, notAfter }: DueGrant, now: number) => ({
  grant: toBase64(
    new TextEncoder().encode(
      JSON.stringify({
        ...{ trustDomain: home, network: content.network, networkUid: content.networkUid },
        ...{ nodeDomain: content.nodeDomain, node: content.node, isWhole: content.isWhole },
        ...{ addresses: content.addresses, storeId: content.storeId, sequence: content.sequence },
        ...{ notBefore: now, notAfter },
      }),
    ),
  ),
  signature: 'AAAA',
  certificateChain: ['AAAA'],
  sequence: content.sequence,
  notAfter,
});

const grant = async (now: number): Promise<number | undefined> => {
  const due = await run(dueGrant(granting, bounds, now));
  if (due === undefined) return undefined;
  expect(await run(keepGrant(granting, due, signed(due, now)))).toBe(true);
  return due.content.sequence;
};

const restricted = async (): Promise<void> => {
  await red();
  await enrolled('n1');
  await join('n1');
  const rule = { network: 'red', trustDomain: home, isDryRun: false, createdAt: 0 };
  await run(createAdmissionRule({ ...rule, name: 'web', workload: 'labels.app == "web"' }, by));
  await run(deleteAdmissionRule('red', 'home', by));
};

test('a grant is due once, and again when something else is granted or it has not long to go', async () => {
  await restricted();
  expect(await grant(NOW)).toBe(NOW);
  expect(await grant(NOW + 1000)).toBeUndefined();
  const web = { ...attachment('p1', '10.60.0.1'), labels: { app: 'web' } };
  await run(putAttachments('red', 'n1', [web], NOW, home));
  expect(await grant(NOW + 1000)).toBe(NOW + 1000);
  expect(await grant(NOW + bounds.termMs / 2)).toBe(NOW + bounds.termMs / 2);
});

test('a node that left and is back is granted past what it had, also when the clock was ahead then', async () => {
  await restricted();
  const ahead = NOW + 24 * 3_600_000;
  expect(await grant(ahead)).toBe(ahead);
  await run(leaveNetwork('red', 'n1', NOW));
  await join('n1');
  expect(await grant(NOW)).toBe(ahead + 1);
  await run(leaveNetwork('red', 'n1', NOW));
  await run(leaveNetwork('red', 'n1', NOW));
  await join('n1');
  expect(await grant(NOW)).toBe(ahead + 2);
});
