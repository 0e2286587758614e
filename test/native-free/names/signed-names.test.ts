import { describe, expect, test } from 'vitest';
import { formatAddress, parseAddress } from '../../../native-free/ipam/prefix.ts';
import { NamesBook } from '../../../native-free/names/names-book.ts';
import {
  decodeVerifiedNames,
  encodeNames,
  fitted,
  MAX_NAMES_BYTES,
  NAMES_CONTEXT,
  type NodeNames,
} from '../../../native-free/names/signed-names.ts';
import { type SignedRecord, signingInput, type VerifyRecord } from '../../../native-free/registry/record.ts';

const NOW = 1_800_000_000_000;
const DOMAIN = 'aws-prod.example';
const EXPECTED = { network: 'red', networkUid: 'uid-1', home: DOMAIN, node: 'n1' };

const names = (changes: Partial<NodeNames> = {}): NodeNames => ({
  trustDomain: DOMAIN,
  network: 'red',
  networkUid: 'uid-1',
  node: 'n1',
  sequence: 3,
  notBefore: NOW - 1000,
  notAfter: NOW + 1000,
  names: [
    { name: 'db', addresses: [parseAddress('10.60.1.3')] },
    { name: 'web.shop', addresses: ['10.60.1.2', 'fd00:60::2'].map(parseAddress) },
  ],
  ...changes,
});

const signed = (record: Uint8Array): SignedRecord => ({
  record,
  signature: new Uint8Array(64),
  certificateChain: [new Uint8Array(100)],
});
/** Stands for a good signature by n1. */
const byN1: VerifyRecord = () => ({ trustDomain: DOMAIN, node: 'n1', notAfter: NOW + 1000 });
const decode = (record: Uint8Array, verify = byN1, now = NOW, expected = EXPECTED) =>
  decodeVerifiedNames(signed(record), verify, now, expected);
const text = new TextDecoder();
const bytes = new TextEncoder();
const replaced = (from: string, to: string): Uint8Array =>
  bytes.encode(text.decode(encodeNames(names())).replace(from, to));

describe('signed names', () => {
  test('are read back as they were, once their signature is checked under a context of their own', () => {
    const record = encodeNames(names());
    let seen: Uint8Array | undefined;
    const verify: VerifyRecord = (_, input) => {
      seen = Uint8Array.from(input);
      return { trustDomain: DOMAIN, node: 'n1', notAfter: NOW + 1000 };
    };
    expect(decode(record, verify)).toEqual({ kind: 'accepted', names: names() });
    expect(seen).toEqual(signingInput(NAMES_CONTEXT, record));
  });

  test.each([
    ['a signature that does not hold', encodeNames(names()), { verify: () => undefined }],
    ['another node’s', encodeNames(names({ node: 'n2' })), {}],
    ['those of a node under the name of another', encodeNames(names()), { node: 'n2' }],
    ['another network’s', encodeNames(names({ network: 'green' })), {}],
    ['an earlier network’s of that name', encodeNames(names({ networkUid: 'uid-0' })), {}],
    ['another domain’s of that name and uid', encodeNames(names({ home: 'partner.example' })), {}],
    ['a domain named again', replaced('"node"', `"home":"${DOMAIN}","node"`), {}],
    ['those that are over', encodeNames(names()), { now: NOW + 1000 }],
    ['those that have not begun', encodeNames(names()), { now: NOW - 1001 }],
    ['those that outlive their SVID', encodeNames(names({ notAfter: NOW + 1001 })), {}],
    ['a space more', replaced('{', '{ '), {}],
    ['a name with a dot at its end', replaced('"db"', '"db."'), {}],
    ['a name in capitals', replaced('"db"', '"DB"'), {}],
    ['a wildcard', replaced('"db"', '"*"'), {}],
    ['a name twice', replaced('"web.shop"', '"db"'), {}],
    ['names that do not ascend', replaced('"db"', '"zz"'), {}],
    ['an address that is not canonical', replaced('fd00:60::2', 'fd00:60:0::2'), {}],
    ['an address twice', replaced('fd00:60::2', '10.60.1.2'), {}],
    ['a name without an address', replaced('["10.60.1.3"]', '[]'), {}],
    ['a field more', replaced('"names"', '"more":1,"names"'), {}],
  ] as const)('refuse %s', (_, record, how) => {
    const {
      verify = byN1,
      now = NOW,
      node = 'n1',
    } = how as {
      verify?: VerifyRecord;
      now?: number;
      node?: string;
    };
    expect(decode(record, verify, now, { ...EXPECTED, node }).kind).toBe('refused');
  });

  test('that are too many are as many as one document takes', () => {
    const many = Array.from({ length: 4096 }, (_, i) => ({
      name: `${'x'.repeat(60)}.${'y'.repeat(60)}.w${i}`,
      addresses: [parseAddress('10.60.1.2')],
    }));
    const { names: kept, left } = fitted(many);
    expect(left).toBeGreaterThan(0);
    expect(kept.length + left).toBe(4096);
    expect(encodeNames(names({ names: kept })).length).toBeLessThanOrEqual(MAX_NAMES_BYTES);
  });

  test('of two workloads with one name are one', () => {
    const { names: kept } = fitted([
      { name: 'web', addresses: [parseAddress('10.60.1.9')] },
      { name: 'web', addresses: ['10.60.1.10', '10.60.1.9'].map(parseAddress) },
    ]);
    expect(kept.map(({ addresses }) => addresses.map(formatAddress))).toEqual([['10.60.1.10', '10.60.1.9']]);
    expect(decode(encodeNames(names({ names: kept }))).kind).toBe('accepted');
  });
});

const at = (boot: number, bootId = 'b1') => ({ wall: NOW + boot, boot, bootId });

const book = (saved = new Map<string, { signed: SignedRecord; acceptedAt: ReturnType<typeof at> }>()) =>
  new NamesBook(
    { network: 'red', networkUid: 'uid-1', home: DOMAIN, node: 'n0' },
    {
      saved: {
        list: () => [...saved].map(([node, value]) => ({ node, ...value })),
        put: (node, signed, acceptedAt) => saved.set(node, { signed, acceptedAt }),
        delete: (node) => saved.delete(node),
      },
      verifierOf: () => byN1,
      report: () => {},
    },
  );

describe('a book of names', () => {
  test('keeps the newest of each node, over a restart, until its validity ends', () => {
    const saved = new Map();
    const one = book(saved);
    one.offer('n1', signed(encodeNames(names({ sequence: 5 }))));
    expect(one.look(at(0))).toBe('n1');
    one.offer('n1', signed(encodeNames(names({ sequence: 4 }))));
    expect(one.look(at(0))).toBeUndefined();
    expect(one.look(at(0))).toBe(false);
    const again = book(saved);
    expect(again.names('n1', at(1))).toBeUndefined();
    expect(again.look(at(1))).toBe('n1');
    expect(again.names('n1', at(1))?.sequence).toBe(5);
    expect(again.names('n1', at(999))).toBeDefined();
    expect(again.names('n1', at(1000))).toBeUndefined();
  });

  test('looks only at the newest that came of a node', () => {
    const one = book();
    for (const sequence of [4, 5, 6]) one.offer('n1', signed(encodeNames(names({ sequence }))));
    expect(one.look(at(0))).toBe('n1');
    expect(one.look(at(0))).toBe(false);
    expect(one.names('n1', at(0))?.sequence).toBe(6);
  });

  test('says why it refused, and keeps what it had', () => {
    const one = book();
    one.offer('n1', signed(encodeNames(names())));
    one.look(at(0));
    one.offer('n1', signed(encodeNames(names({ network: 'green', sequence: 9 }))));
    one.look(at(0));
    expect(one.refusals.get('n1')).toMatch(/green/);
    expect(one.names('n1', at(0))?.sequence).toBe(3);
  });
});
