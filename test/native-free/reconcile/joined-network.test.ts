import { expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { mustBeInPools, mustBeUsable } from '../../../native-free/reconcile/joined-network.ts';

const network = (over: object = {}) => ({
  name: 'red',
  uid: 'uid',
  poolV4: '10.60.0.0/16',
  poolV6: 'fd00:60::/48',
  excluded: [],
  mtu: 0,
  createdAt: 0,
  ...over,
});

test("a partner's network is taken when its pools are private", () => {
  mustBeUsable(network(), 'home.example');
  mustBeUsable(network({ poolV4: '100.64.0.0/12' }), 'home.example');
});

test.each([
  ['8.8.0.0/16', 'fd00:60::/48'],
  ['0.0.0.0/1', 'fd00:60::/48'],
  ['172.0.0.0/8', 'fd00:60::/48'],
  ['10.60.0.0/16', '2001:db8::/32'],
  ['10.60.0.0/16', '::/1'],
])(
  "a partner's network of %s and %s is not joined, the own domain's is its admin's to say",
  (poolV4, poolV6) => {
    expect(() => mustBeUsable(network({ poolV4, poolV6 }), 'home.example')).toThrow(
      /of home\.example is no private range: .* is not joined/,
    );
    mustBeUsable(network({ poolV4, poolV6 }), undefined);
  },
);

test('what is no network is none, whoever says it', () => {
  for (const over of [{ mtu: 40 }, { poolV4: 'nonsense' }, { name: 'Red' }, { excluded: ['x'] }])
    expect(() => mustBeUsable(network(over), undefined)).toThrow(/network\./);
});

test('a lease from outside the pools is not taken', () => {
  const pools = ['10.60.0.0/16'].map(parsePrefix);
  mustBeInPools(parsePrefix('10.60.4.0/24'), pools, 'red');
  for (const prefix of ['10.96.0.0/24', '10.0.0.0/8', 'fd00:60::/112'])
    expect(() => mustBeInPools(parsePrefix(prefix), pools, 'red')).toThrow(
      /which is in no pool of network "red"/,
    );
});
