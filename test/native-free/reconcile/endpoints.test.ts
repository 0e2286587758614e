import { expect, test } from 'vitest';
import { announce, candidates } from '../../../native-free/reconcile/endpoints.ts';
import { MAX_RECORD_ENDPOINTS } from '../../../native-free/registry/record.ts';

const facts = {
  localAddresses: ['10.0.0.5'],
  ownAddresses: ['10.0.0.5', '10.244.1.1'],
  observedAddress: undefined,
  advertised: [],
  port: 51820,
};

test('a node whose address the registry sees as it is announces its own addresses to everyone', () => {
  const result = announce({ ...facts, observedAddress: '10.0.0.5' });
  expect(result).toEqual({
    endpoints: [{ address: '10.0.0.5', port: 51820, scope: 'public' }],
    behindNat: false,
    site: undefined,
  });
});

test('a node that the registry sees under another address announces its own only to its site', () => {
  const result = announce({ ...facts, observedAddress: '203.0.113.9' });
  expect(result.behindNat).toBe(true);
  expect(result.endpoints).toEqual([
    { address: '10.0.0.5', port: 51820, scope: 'site', site: '203.0.113.9' },
  ]);
});

test.each(['127.0.0.1', '127.8.8.8', '::1'])(
  'a node that reached the registry by loopback %s is behind nothing',
  (observedAddress) => {
    expect(announce({ ...facts, observedAddress })).toEqual(announce(facts));
  },
);

test('a node that the registry sees by the address of its bridge of containers is behind nothing', () => {
  expect(announce({ ...facts, observedAddress: '10.244.1.1' })).toEqual(announce(facts));
});

test('an advertised address is announced to everyone and its node does not count as behind NAT', () => {
  const result = announce({
    ...facts,
    observedAddress: '198.51.100.4',
    advertised: [{ address: '198.51.100.4', port: 4000 }],
  });
  expect(result.behindNat).toBe(false);
  expect(result.endpoints[0]).toEqual({ address: '198.51.100.4', port: 4000, scope: 'public' });
  expect(result.endpoints[1]?.scope).toBe('site');
});

test('with an advertised address nothing private is announced to everyone, even before the registry answered', () => {
  const result = announce({ ...facts, advertised: [{ address: '198.51.100.4' }] });
  expect(result.endpoints).toEqual([{ address: '198.51.100.4', port: 51820, scope: 'public' }]);
});

test('identical private ranges at different sites are never tried across', () => {
  const { endpoints } = announce({ ...facts, observedAddress: '203.0.113.9' });
  expect(candidates(endpoints, '198.51.100.1')).toEqual([]);
  expect(candidates(endpoints, undefined)).toEqual([]);
  expect(candidates(endpoints, '203.0.113.9')).toEqual([{ address: '10.0.0.5', port: 51820 }]);
});

test('the way inside a site comes before the way around', () => {
  const { endpoints } = announce({
    ...facts,
    observedAddress: '203.0.113.9',
    advertised: [{ address: '203.0.113.9' }],
  });
  expect(candidates(endpoints, '203.0.113.9').map((one) => one.address)).toEqual(['10.0.0.5', '203.0.113.9']);
});

test('a node with very many addresses announces a bounded number', () => {
  const localAddresses = Array.from({ length: 100 }, (_, i) => `10.0.1.${i}`);
  expect(announce({ ...facts, localAddresses }).endpoints).toHaveLength(MAX_RECORD_ENDPOINTS);
});
