// Resolvers are found in whatever stands in a resolv.conf.

import { expect, test } from 'vitest';
import { formatPrefix } from '../../../native-free/ipam/prefix.ts';
import { resolversIn } from '../../../src/agent/reserved.ts';

test('name servers of both families are read, everything else is passed over', () => {
  const text = [
    '# nameserver 10.0.0.1',
    'search example nameserver 10.0.0.2',
    'nameserver 10.0.0.3 # the old one',
    '  nameserver\tfd00::53',
    'nameserver fe80::1%eth0',
    'nameserver',
    'nameserver not-an-address',
    `nameserver ${'9'.repeat(10_000)}`,
    '\u0000\u0001',
  ].join('\n');
  const found = resolversIn(text, 'this node');
  expect(found.map(({ prefix }) => formatPrefix(prefix))).toEqual([
    '10.0.0.3/32',
    'fd00::53/128',
    'fe80::1/128',
  ]);
  expect(found[0]?.by).toBe('10.0.0.3, a resolver of this node');
});
