// What excluded ranges hold is found, whatever it is and wherever the range cuts.

import { expect, test } from 'vitest';
import { excludedUses } from '../../../native-free/registry/excluded-uses.ts';
import type { Attachment, Lease, Network } from '../../../native-free/registry/model.ts';

const network = (...excluded: string[]): Network => ({
  name: 'red',
  uid: 'u',
  poolV4: '10.60.0.0/16',
  nodePrefixLengthV4: 24,
  excluded,
  mtu: 0,
  createdAt: 0,
});
const leases: Lease[] = ['10.60.1.0/24', 'fd00::1:0/112'].map((prefix) => ({
  network: 'red',
  node: 'a1',
  prefix,
  leasedAt: 0,
}));
const attachments: Attachment[] = [
  {
    id: 'x1',
    network: 'red',
    node: 'a1',
    workload: 'web',
    addresses: ['10.60.1.9', 'fd00::1:2'],
    interfaceName: 'red',
    labels: {},
    attachedAt: 0,
  },
];
const uses = (...excluded: string[]) =>
  excludedUses(network(...excluded), leases, attachments).map(({ range, kind, held }) => [range, kind, held]);

test('a prefix inside counts with its gateway and its attachments', () => {
  expect(uses('10.60.0.0/22')).toEqual([
    ['10.60.0.0/22', 'prefix', '10.60.1.0/24'],
    ['10.60.0.0/22', 'gateway', '10.60.1.1'],
    ['10.60.0.0/22', 'attachment', '10.60.1.9'],
  ]);
});

test('a range inside a prefix counts by what it cuts out', () => {
  expect(uses('10.60.1.8/29')).toEqual([['10.60.1.8/29', 'attachment', '10.60.1.9']]);
  expect(uses('10.60.1.0/31')).toEqual([['10.60.1.0/31', 'gateway', '10.60.1.1']]);
  expect(uses('10.60.1.128/25', '10.60.2.0/24')).toEqual([]);
  expect(uses('fd00::1:2/127')).toEqual([['fd00::1:2/127', 'attachment', 'fd00::1:2']]);
});
