import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  domainProblem,
  type FederationConstraints,
  federationConstraints,
  nameProblem,
  networkProblem,
  prefixProblem,
} from '../../../native-free/federation/constraints.ts';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';

const GOOD: FederationConstraints = {
  trustDomain: 'partner.example',
  networks: ['red', 'blue'],
  names: ['partner', 'ledger.shared'],
  prefixes: ['10.60.128.0/17', 'fd00:60:8000::/33'],
};

describe('a partner', () => {
  test('is the one domain that was named', () => {
    expect(domainProblem(GOOD, 'partner.example')).toBeUndefined();
    for (const other of ['home.example', 'partner.example.evil', 'artner.example', ''])
      expect(domainProblem(GOOD, other), other).toMatch(/federation is with partner\.example/);
  });

  test('asks for the networks that were named, and for no others', () => {
    expect(networkProblem(GOOD, 'red')).toBeUndefined();
    expect(networkProblem(GOOD, 'green')).toMatch(/network "green" is not among those/);
    expect(networkProblem(GOOD, 're')).toBeDefined();
  });

  test('names its workloads within what was named, at whole labels', () => {
    for (const name of ['partner', 'db.partner', 'a.b.partner', 'ledger.shared', 'x.ledger.shared'])
      expect(nameProblem(GOOD, name), name).toBeUndefined();
    for (const name of ['apartner', 'partner.evil', 'shared', 'ledger', 'xledger.shared', ''])
      expect(nameProblem(GOOD, name), name).toMatch(/is no name for workloads of partner\.example/);
    expect(nameProblem({ ...GOOD, names: [] }, 'db.partner')).toMatch(/it may name none/);
  });

  test('has addresses within what was named, and in whatever the pools give where nothing was', () => {
    const problem = (prefix: string) => prefixProblem(GOOD, parsePrefix(prefix));
    for (const inside of ['10.60.128.0/17', '10.60.200.0/24', '10.60.255.255/32', 'fd00:60:8000:1::/64'])
      expect(problem(inside), inside).toBeUndefined();
    for (const outside of [
      '10.60.0.0/16',
      '10.60.0.0/24',
      '0.0.0.0/0',
      '::/0',
      'fd00:60::/32',
      '10.61.0.0/32',
    ])
      expect(problem(outside), outside).toMatch(/is outside of what partner\.example may have/);
    expect(prefixProblem({ ...GOOD, prefixes: [] }, parsePrefix('192.0.2.0/24'))).toBeUndefined();
  });

  test('has a prefix exactly when every address of it lies in one that was named', () => {
    const [ours] = GOOD.prefixes;
    const { value, length } = parsePrefix(ours ?? '');
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 32 }), fc.bigInt(0n, 2n ** 32n - 1n), (bits, address) => {
        const host = BigInt(32 - bits);
        const first = (address >> host) << host;
        const last = first + (1n << host) - 1n;
        const end = value + (1n << BigInt(32 - length)) - 1n;
        const isInside = first >= value && last <= end;
        expect(prefixProblem(GOOD, { family: 4, value: first, length: bits }) === undefined).toBe(isInside);
      }),
    );
  });
});

test.each<[string, object, RegExp]>([
  ['no network', { networks: [] }, /./],
  ['one network twice', { networks: ['red', 'red'] }, /names one twice/],
  ['a prefix with host bits', { prefixes: ['10.60.128.1/17'] }, /host bits/],
  ['a name with an empty label', { names: ['.partner'] }, /is not a name/],
  ['no trust domain', { trustDomain: 'Partner' }, /is not a trust domain/],
  ['what nobody knows', { anything: true }, /anything/],
])('constraints with %s are refused', (_, change, why) => {
  const { error } = federationConstraints.safeParse({ ...GOOD, ...change });
  expect(JSON.stringify(error?.issues)).toMatch(why);
});
