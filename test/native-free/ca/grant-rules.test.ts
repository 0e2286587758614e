// What a signer apart leases and grants: no prefix to two nodes at a time, whatever a registry asks for and in whatever order.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  forgetLeases,
  grantTo,
  noteAttested,
  registerNetwork,
  registerRule,
  withdrawNetwork,
  withdrawRule,
} from '../../../native-free/ca/grant-rules.ts';
import { admitByToken, registerToken, revokeNode } from '../../../native-free/ca/issue-rules.ts';
import { GRANTED } from '../../../native-free/ca/ledger.ts';
import { parsePrefix, prefixesOverlap } from '../../../native-free/ipam/prefix.ts';
import { MemoryDocuments } from './memory-documents.ts';

const HOME = 'home.example';
const DAY = 86_400_000;
const TERM = 7 * DAY;

const world = () => {
  const store = new MemoryDocuments();
  registerNetwork(store, { network: 'red', uid: 'u1', pools: ['10.60.0.0/16', 'fd00::/48'] });
  const grant = (node: string, prefixes: readonly string[], now = 0) =>
    grantTo(
      store,
      HOME,
      { network: 'red', networkUid: 'u1', node, prefixes, sequence: 1, notAfter: now + TERM, restMs: DAY },
      now,
    );
  return { store, grant };
};

test('no two nodes hold overlapping prefixes at a time, whatever is asked for', () => {
  const prefix = fc
    .tuple(fc.integer({ min: 16, max: 28 }), fc.integer({ min: 0, max: 65_535 }))
    .map(([length, host]) => {
      const value = ((10 * 256 + 60) * 65_536 + host) & (-1 << (32 - length));
      const bytes = [24, 16, 8, 0].map((shift) => (value >>> shift) & 255);
      return `${bytes.join('.')}/${length}`;
    });
  const ask = fc.record({
    node: fc.constantFrom('n1', 'n2', 'n3'),
    prefixes: fc.array(prefix, { minLength: 1, maxLength: 3 }),
    after: fc.integer({ min: 0, max: 5 * DAY }),
  });
  fc.assert(
    fc.property(fc.array(ask, { maxLength: 40 }), (asks) => {
      const { grant } = world();
      const granted: { node: string; prefix: string; until: number }[] = [];
      let now = 0;
      for (const { node, prefixes, after } of asks) {
        now += after;
        let given: string[];
        try {
          given = grant(node, prefixes, now).prefixes;
        } catch {
          continue;
        }
        for (const one of given) {
          const clash = granted.find(
            (other) =>
              other.node !== node &&
              other.until > now &&
              prefixesOverlap(parsePrefix(other.prefix), parsePrefix(one)),
          );
          expect(clash).toBeUndefined();
          granted.push({ node, prefix: one, until: now + TERM });
        }
      }
    }),
  );
});

test('a prefix is free once its lease has ended and rested, or its node was revoked', () => {
  const { store, grant } = world();
  grant('n1', ['10.60.0.0/24']);
  expect(() => grant('n2', ['10.60.0.0/24'], TERM + DAY - 1)).toThrow(/is node "n1"'s until/);
  expect(grant('n2', ['10.60.0.0/24'], TERM + DAY).prefixes).toEqual(['10.60.0.0/24']);
  grant('n1', ['10.60.1.0/24'], TERM + DAY);
  revokeNode(store, 'n1', TERM + DAY);
  forgetLeases(store, TERM + DAY, 'n1');
  expect(() => grant('n1', ['10.60.1.0/24'], TERM + DAY)).toThrow(/was revoked/);
  expect(grant('n2', ['10.60.1.0/24'], TERM + DAY).prefixes).toEqual(['10.60.1.0/24']);
});

test('a refused grant leases nothing of what it names', () => {
  const { grant } = world();
  grant('n1', ['10.60.5.0/24']);
  expect(() => grant('n2', ['10.60.4.0/24', '10.60.5.0/24'])).toThrow(/is node "n1"'s/);
  expect(grant('n3', ['10.60.4.0/24']).prefixes).toEqual(['10.60.4.0/24']);
});

test('a network is the one that an admin registered, and another one of its name is not', () => {
  const { store, grant } = world();
  const other = { network: 'red', uid: 'u2', pools: ['0.0.0.0/0'] };
  expect(() => registerNetwork(store, other)).toThrow(/knows another network "red"/);
  registerNetwork(store, { network: 'red', uid: 'u1', pools: ['10.60.0.0/16', 'fd00::/48'] });
  withdrawNetwork(store, 'red');
  expect(() => grant('n1', ['10.60.0.0/24'])).toThrow(/no admin registered network "red"/);
});

describe('where the home rule was taken away', () => {
  const attested = (app: string, address: string) => ({
    workload: 'web',
    namespace: '',
    serviceAccount: '',
    labels: { app },
    addresses: [address],
  });
  const say = (store: MemoryDocuments, sequence: number, ...attachments: ReturnType<typeof attested>[]) =>
    noteAttested(store, 'n1', {
      ...{ trustDomain: HOME, network: 'red', networkUid: 'u1', node: 'n1' },
      attachments,
      sequence,
      notAfter: TERM,
    });
  const rule = {
    ...{ network: 'red', name: 'ledger', trustDomain: HOME },
    ...{ labels: { app: 'ledger' }, isDryRun: false, createdAt: 0 },
  };

  test('what the node signed, rules admit, and lies in its own prefixes is granted, and nothing else', () => {
    const { store, grant } = world();
    withdrawRule(store, 'red', 'home');
    registerRule(store, rule);
    expect(grant('n1', ['10.60.0.0/24'])).toMatchObject({ isWhole: false, addresses: [] });
    say(
      store,
      2,
      attested('ledger', '10.60.0.5'),
      attested('other', '10.60.0.6'),
      attested('ledger', '10.60.9.7'),
    );
    expect(grant('n1', ['10.60.0.0/24']).addresses).toEqual(['10.60.0.5']);
    // An older word changes nothing, and none outlives its SVID.
    say(store, 1, attested('ledger', '10.60.0.6'));
    expect(grant('n1', ['10.60.0.0/24']).addresses).toEqual(['10.60.0.5']);
    expect(grant('n1', ['10.60.0.0/24'], TERM).addresses).toEqual([]);
    withdrawRule(store, 'red', 'ledger');
    expect(grant('n1', ['10.60.0.0/24']).addresses).toEqual([]);
    registerRule(store, { ...rule, name: 'home', labels: undefined });
    expect(grant('n1', ['10.60.0.0/24']).isWhole).toBe(true);
  });

  test('what a node said before it was revoked is not granted to who gets its name afterwards', () => {
    const { store, grant } = world();
    withdrawRule(store, 'red', 'home');
    registerRule(store, rule);
    // As far ahead as it may be.
    say(store, 366 * DAY, attested('ledger', '10.60.0.5'));
    revokeNode(store, 'n1', 1);
    forgetLeases(store, 1, 'n1');
    registerToken(store, 'a'.repeat(64), { key: 'AAAA', node: 'n1', expiresAt: DAY }, 1);
    admitByToken(store, { tokenId: 'a'.repeat(64), node: 'n1', keyHash: 'b'.repeat(64) }, 1);
    expect(grant('n1', ['10.60.0.0/24'], 1).addresses).toEqual([]);
    say(store, 2, attested('ledger', '10.60.0.7'));
    expect(grant('n1', ['10.60.0.0/24'], 1).addresses).toEqual(['10.60.0.7']);
  });
});

describe('a registry that was taken over and asks for what nobody needs', () => {
  const small = (i: number): string => `10.60.${i >> 4}.${(i & 15) * 16}/28`;

  test('gets no more prefixes booked for one node than that could have had', () => {
    const { grant } = world();
    for (let i = 0; i < 128; i++) grant('n1', [small(i)]);
    expect(() => grant('n1', [small(128)])).toThrow(/node "n1" has, or had lately, 128 prefixes/);
    expect(grant('n1', [small(5)]).prefixes).toEqual([small(5)]);
    expect(grant('n2', [small(128)]).prefixes).toEqual([small(128)]);
    // They rest, and are anybody's.
    expect(grant('n1', [small(200)], TERM + DAY).prefixes).toEqual([small(200)]);
  });

  test('makes the ledger keep nothing that ended, and no more than it can hold', () => {
    const { store, grant } = world();
    for (let i = 0; i < 50; i++) grant(`n${i}`, [], 0);
    expect(store.list(GRANTED)).toHaveLength(50);
    forgetLeases(store, TERM);
    expect(store.list(GRANTED)).toHaveLength(0);
    for (let i = 0; i < 131_072; i++) store.put(GRANTED, `u1 x${i}`, { sequence: 1, until: TERM });
    expect(() => grant('n1', [])).toThrow(/131072 grants on record.*does a registry ask/);
    expect(grant('x7', []).prefixes).toEqual([]);
  });
});
