// Who creates a network is warned of what its pools will be in the way of, as far as the registry knows.

import { beforeEach, expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { enroll } from '../../../native-free/registry/enrolment-rules.ts';
import { joinNetwork } from '../../../native-free/registry/lease-rules.ts';
import { createNetwork } from '../../../native-free/registry/network-rules.ts';
import { createToken } from '../../../native-free/registry/token-rules.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { firstFit, memoryStore, networkRequest, record } from './fixtures.ts';

const NOW = 1_000_000;

let transactor: Transactor;
const enrolled = async (node: string): Promise<void> => {
  const hash = Buffer.from(node).toString('hex').padEnd(64, 'a');
  await transactor.run(createToken({ hash, node, ttlMs: 3_600_000 }, NOW));
  const certificate = { serial: node, notAfter: NOW + 1_000_000 };
  const svid = { certificate, notBefore: NOW, chain: ['AA=='] };
  const who = { secretHash: hash, node, keyHash: 'key', spiffeId: `spiffe://test/node/${node}`, svid };
  await transactor.run(enroll(who, NOW));
};
const announce = (node: string, text: string) =>
  transactor.run(putRecord('red', node, record({ record: Buffer.from(text).toString('base64') })));
const warnings = async (poolV4: string, reserved: string[] = []) => {
  const request = networkRequest({ name: 'green', poolV4, poolV6: '' });
  const rule = createNetwork(request, { now: NOW, uid: 'uid-green' }, reserved.map(parsePrefix));
  return (await transactor.run(rule)).answer.warnings;
};

beforeEach(async () => {
  transactor = new Transactor(memoryStore());
  await transactor.run(createNetwork(networkRequest(), { now: NOW, uid: 'uid-red' }));
  for (const node of ['a1', 'a2']) {
    await enrolled(node);
    await transactor.run(joinNetwork('red', node, NOW, firstFit));
  }
});

test('of the addresses that nodes announce, whatever else the records say', async () => {
  await announce(
    'a1',
    JSON.stringify({ endpoints: [{ address: '10.70.0.5', port: 1 }, { address: 'nonsense' }] }),
  );
  await announce('a2', 'no JSON at all');
  expect(await warnings('10.70.0.0/16')).toEqual([
    '10.70.0.0/16 holds addresses of a1: attaching is refused there, and elsewhere they are out of sight',
  ]);
});

test('of reserved ranges', async () => {
  expect(await warnings('10.100.0.0/16', ['10.96.0.0/12', 'fd00::/8', '10.112.0.0/16'])).toEqual([
    '10.100.0.0/16 overlaps 10.96.0.0/12, which is reserved (--reserved-range): attaching is refused where that range is reserved too',
  ]);
});

test('of nothing, when nothing is in the way', async () => {
  await announce('a1', JSON.stringify({ endpoints: [{ address: '10.71.0.5', port: 1 }] }));
  expect(await warnings('10.70.0.0/16', ['10.96.0.0/12'])).toEqual([]);
});
