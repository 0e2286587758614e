import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import {
  decodeVerified,
  encodeRecord,
  MAX_RECORD_BYTES,
  MAX_RECORD_ENDPOINTS,
  MAX_RECORD_PREFIXES,
  MAX_SEQUENCE_AHEAD_MS,
  type NodeRecord,
  nextSequence,
  RECORD_CONTEXT,
  type SignedRecord,
  signingInput,
  type VerifyRecord,
} from '../../../native-free/registry/record.ts';

const NOW = 1_800_000_000_000;
const DOMAIN = 'aws-prod.example';
const EXPECTED = { network: 'red', networkUid: 'uid-1', home: DOMAIN };

const record = (changes: Partial<NodeRecord> = {}): NodeRecord => ({
  trustDomain: DOMAIN,
  network: 'red',
  networkUid: 'uid-1',
  node: 'n1',
  publicKey: 'BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=',
  prefixes: [
    { prefix: '10.60.1.0/24', leasedAt: NOW - 1000 },
    { prefix: 'fd00:60::1:0/112', leasedAt: NOW - 500 },
  ],
  endpoints: [
    { address: '203.0.113.4', port: 51_820, scope: 'public' },
    { address: '192.168.1.4', port: 51_820, scope: 'site', site: '198.51.100.1' },
  ],
  sequence: 3,
  notBefore: NOW - 1000,
  notAfter: NOW + 1000,
  ...changes,
});

const N1 = { trustDomain: DOMAIN, node: 'n1', notAfter: NOW + 1000 };
/** Stands for a good signature by n1. */
const byN1: VerifyRecord = () => N1;
const bytesOf = (text: string) => new TextEncoder().encode(text);
const signed = (bytes: Uint8Array): SignedRecord => ({
  record: bytes,
  signature: new Uint8Array(64),
  certificateChain: [new Uint8Array(100)],
});
const decode = (bytes: Uint8Array, verify = byN1, now = NOW, expected = EXPECTED) =>
  decodeVerified(signed(bytes), verify, now, expected);

/** What is said of JSON that an enrolled node signed, though no honest agent would make it. */
const saidOf = (changes: Record<string, unknown>): string => {
  const result = decode(bytesOf(JSON.stringify({ ...record(), ...changes })));
  return result.kind === 'refused' ? result.reason : result.kind;
};

describe('a record', () => {
  test('reads back as it was written', () => {
    expect(decode(encodeRecord(record()))).toEqual({ kind: 'accepted', record: record(), isLeased: false });
    const bare = record({ prefixes: [], endpoints: [] });
    expect(decode(encodeRecord(bare))).toEqual({ kind: 'accepted', record: bare, isLeased: false });
  });

  test('has one encoding, whatever the order of its fields', () => {
    const reversed = Object.fromEntries(Object.entries(record()).reverse());
    expect(encodeRecord({ ...record(), ...reversed })).toEqual(encodeRecord(record()));
  });

  test('is signed under its context, which no other context can imitate', () => {
    const bytes = bytesOf('{}');
    const input = signingInput(RECORD_CONTEXT, bytes);
    expect(new TextDecoder().decode(input)).toBe('vl3 node record v1\0{}');
    expect(signingInput(`${RECORD_CONTEXT}x`, bytes)).not.toEqual(input);
    expect(signingInput('vl3 node record v', bytesOf('1{}'))).not.toEqual(input);
  });

  test('holds from notBefore until, but not at, notAfter', () => {
    const bytes = encodeRecord(record());
    const at = (now: number) => {
      const result = decode(bytes, byN1, now);
      return result.kind === 'refused' ? result.reason : result.kind;
    };
    expect(at(NOW - 1001)).toBe('not-yet-valid');
    expect(at(NOW - 1000)).toBe('accepted');
    expect(at(NOW + 999)).toBe('accepted');
    expect(at(NOW + 1000)).toBe('expired');
  });

  test('with a sequence far ahead of the present is refused, so that no name runs out of sequences', () => {
    const at = (sequence: number) => {
      const result = decode(encodeRecord(record({ sequence })));
      return result.kind === 'refused' ? result.reason : result.kind;
    };
    expect(at(NOW + MAX_SEQUENCE_AHEAD_MS)).toBe('accepted');
    expect(at(NOW + MAX_SEQUENCE_AHEAD_MS + 1)).toBe('not-yet-valid');
    expect(at(Number.MAX_SAFE_INTEGER)).toBe('not-yet-valid');
  });

  test('has a next one past all that were taken, whatever the clock did', () => {
    expect(nextSequence(0, 0, NOW)).toBe(NOW);
    expect(nextSequence(NOW + 5, 0, NOW)).toBe(NOW + 6);
    expect(nextSequence(3, NOW + 7, NOW)).toBe(NOW + 8);
    // What no registry took since it was far ahead is given up.
    expect(nextSequence(Number.MAX_SAFE_INTEGER, 0, NOW)).toBe(NOW);
  });

  test('at its largest fits into the limit', () => {
    const prefixes = Array.from({ length: MAX_RECORD_PREFIXES }, (_, i) => ({
      prefix: `fd00:1111:2222:3333:4444:5555:${(0x6000 + i).toString(16)}:0/112`,
      leasedAt: NOW,
    }));
    const endpoints = Array.from({ length: MAX_RECORD_ENDPOINTS }, (_, i) => ({
      address: `2001:db8:1111:2222:3333:4444:5555:${(0x6000 + i).toString(16)}`,
      port: 51_820,
      scope: 'site' as const,
      site: '2001:db8:1111:2222:3333:4444:5555:6666',
    }));
    const label = 'n'.repeat(63);
    const largest = record({
      prefixes,
      endpoints,
      trustDomain: 'd'.repeat(255),
      network: label,
      node: label,
      networkUid: 'u'.repeat(64),
    });
    expect(encodeRecord(largest).length).toBeLessThan(MAX_RECORD_BYTES);
  });
});

describe('no record is made', () => {
  test.each([
    ['with a bad name', { node: 'N 1' }],
    [
      'with overlapping prefixes',
      {
        prefixes: [
          { prefix: '10.0.0.0/8', leasedAt: 1 },
          { prefix: '10.1.0.0/16', leasedAt: 1 },
        ],
      },
    ],
    ['that ends before it begins', { notBefore: NOW, notAfter: NOW }],
    ['with a key of 31 bytes', { publicKey: 'BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==' }],
    ['without a sequence', { sequence: 0 }],
    [
      'with a loopback endpoint',
      { endpoints: [{ address: '127.0.0.1', port: 1, scope: 'public' as const }] },
    ],
  ])('%s', (_, changes) => {
    expect(() => encodeRecord(record(changes))).toThrow(Vl3Error);
  });
});

describe('refused is a record', () => {
  test('that nobody signed, unread', () => {
    let asked = 0;
    const result = decode(bytesOf('not even JSON'), (chain, input, signature) => {
      asked++;
      expect([chain.length, signature.length]).toEqual([1, 64]);
      expect(new TextDecoder().decode(input)).toBe(`${RECORD_CONTEXT}\0not even JSON`);
      return undefined;
    });
    expect(result).toMatchObject({ kind: 'refused', reason: 'unverified' });
    expect(asked).toBe(1);
  });

  test('signed by another node, or in another domain', () => {
    const bytes = encodeRecord(record());
    for (const signer of [
      { ...N1, node: 'n2' },
      { ...N1, trustDomain: 'other.example' },
    ]) {
      expect(decode(bytes, () => signer)).toMatchObject({ reason: 'wrong-signer' });
    }
  });

  test('of another network, or of an earlier one of the same name', () => {
    const bytes = encodeRecord(record());
    for (const expected of [
      { ...EXPECTED, network: 'green' },
      { ...EXPECTED, networkUid: 'uid-0' },
    ]) {
      expect(decode(bytes, byN1, NOW, expected)).toMatchObject({ reason: 'wrong-network' });
    }
  });

  test('of a network of another domain that has the name and the uid of one here, and the other way round', () => {
    const home = 'partner.example';
    const [ours, theirs] = [encodeRecord(record()), encodeRecord(record({ home }))];
    const there = { ...EXPECTED, home };
    expect(decode(theirs)).toMatchObject({ reason: 'wrong-network' });
    expect(decode(ours, byN1, NOW, there)).toMatchObject({ reason: 'wrong-network' });
    expect(decode(theirs, byN1, NOW, there)).toMatchObject({ kind: 'accepted', record: { home } });
    // Its own domain is not named twice, so that an earlier version reads it as well.
    expect(encodeRecord(record({ home: DOMAIN }))).toEqual(ours);
    const twice = new TextDecoder().decode(theirs).replace(home, DOMAIN);
    expect(decode(new TextEncoder().encode(twice))).toMatchObject({ reason: 'malformed' });
  });

  test('that outlives the SVID that signed it', () => {
    const bytes = encodeRecord(record());
    expect(decode(bytes, () => ({ ...N1, notAfter: NOW + 999 }))).toMatchObject({ reason: 'outlives-svid' });
  });

  test('with any part too large, before anything is checked', () => {
    const never: VerifyRecord = () => {
      throw new Error('must not be asked');
    };
    const good = signed(encodeRecord(record()));
    for (const bad of [
      { ...good, record: new Uint8Array(MAX_RECORD_BYTES + 1) },
      { ...good, record: new Uint8Array(0) },
      { ...good, signature: new Uint8Array(63) },
      { ...good, signature: new Uint8Array(65) },
      { ...good, certificateChain: [] },
      { ...good, certificateChain: Array.from({ length: 5 }, () => new Uint8Array(1)) },
      { ...good, certificateChain: [new Uint8Array(8193)] },
    ]) {
      expect(decodeVerified(bad, never, NOW, EXPECTED)).toMatchObject({ reason: 'oversized' });
    }
  });

  test.each<[string, Record<string, unknown>]>([
    ['has a field too many', { extra: 1 }],
    ['lacks a field', { publicKey: undefined }],
    ['has a field of another type', { sequence: '3' }],
    ['has a fractional sequence', { sequence: 1.5 }],
    ['has a sequence past 2^53', { sequence: 2 ** 53 }],
    ['has a negative time', { notBefore: -1 }],
    ['ends before it begins', { notBefore: NOW + 2000 }],
    ['has a key that is not canonical base64', { publicKey: `${'B'.repeat(42)}d=` }],
    ['has a prefix with host bits', { prefixes: [{ prefix: '10.0.0.1/24', leasedAt: 1 }] }],
    ['has a prefix in other spelling', { prefixes: [{ prefix: 'FD00:0::/32', leasedAt: 1 }] }],
    [
      'has overlapping prefixes',
      {
        prefixes: [
          { prefix: '10.0.0.0/8', leasedAt: 1 },
          { prefix: '10.9.0.0/24', leasedAt: 1 },
        ],
      },
    ],
    [
      'has the same prefix twice',
      {
        prefixes: [
          { prefix: '10.0.0.0/8', leasedAt: 1 },
          { prefix: '10.0.0.0/8', leasedAt: 2 },
        ],
      },
    ],
    [
      'has too many prefixes',
      {
        prefixes: Array.from({ length: MAX_RECORD_PREFIXES + 1 }, (_, i) => ({
          prefix: `10.${i}.0.0/16`,
          leasedAt: 1,
        })),
      },
    ],
    [
      'has too many endpoints',
      {
        endpoints: Array.from({ length: MAX_RECORD_ENDPOINTS + 1 }, () => ({
          address: '203.0.113.1',
          port: 1,
          scope: 'public',
        })),
      },
    ],
  ])('that %s', (_, changes) => {
    expect(saidOf({})).toBe('accepted');
    expect(saidOf(changes)).toBe('malformed');
  });

  test.each([
    '127.0.0.1',
    '0.0.0.0',
    '169.254.1.1',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    'fe80::1',
    'ff02::1',
    '::ffff:127.0.0.1',
    '2001:DB8::1',
    '203.0.113.04',
    'registry.example',
    'fe80::1%eth0',
    '',
  ])('with the endpoint %j', (address) => {
    expect(saidOf({ endpoints: [{ address, port: 1, scope: 'public' }] })).toBe('malformed');
  });

  test('whose endpoint has a site without being one, or is one without a site', () => {
    const at = { address: '203.0.113.1', port: 1 };
    expect(saidOf({ endpoints: [{ ...at, scope: 'public', site: '203.0.113.9' }] })).toBe('malformed');
    expect(saidOf({ endpoints: [{ ...at, scope: 'site' }] })).toBe('malformed');
    expect(saidOf({ endpoints: [{ ...at, port: 0, scope: 'public' }] })).toBe('malformed');
    expect(saidOf({ endpoints: [{ ...at, port: 65_536, scope: 'public' }] })).toBe('malformed');
  });

  test('in any encoding but the canonical one', () => {
    const text = new TextDecoder().decode(encodeRecord(record()));
    const fields = Object.entries(JSON.parse(text));
    for (const other of [
      ` ${text}`,
      `${text}\n`,
      `\uFEFF${text}`,
      JSON.stringify(JSON.parse(text), null, 1),
      JSON.stringify(Object.fromEntries(fields.reverse())),
      text.replace('"node":"n1"', '"node":"n2","node":"n1"'),
      text.replace('"node":"n1"', '"node":"\\u006e1"'),
      text.replace('"sequence":3', '"sequence":3.0'),
      text.replace('"sequence":3', '"sequence":3e0'),
      text.replace('"node":"n1"', '"__proto__":{},"node":"n1"'),
    ]) {
      expect(decode(bytesOf(other)), other).toMatchObject({ reason: 'malformed' });
    }
  });

  test('that is not UTF-8, not JSON, or not an object', () => {
    for (const text of ['null', '[]', '3', '"x"', '{}', `[${'['.repeat(8000)}`]) {
      expect(decode(bytesOf(text)), text).toMatchObject({ reason: 'malformed' });
    }
    expect(decode(Uint8Array.of(0xff, 0xfe))).toMatchObject({ reason: 'malformed' });
  });
});

describe('fuzzing', () => {
  test('bytes that a node signed are accepted only if they are the encoding of what they say', () => {
    const check = (bytes: Uint8Array) => {
      const result = decode(bytes);
      if (result.kind === 'accepted') expect(encodeRecord(result.record)).toEqual(bytes);
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), check));
    fc.assert(fc.property(fc.json(), (json) => check(bytesOf(json))));
    const honest = encodeRecord(record());
    fc.assert(
      fc.property(fc.nat(honest.length - 1), fc.nat(255), (at, byte) => {
        const changed = honest.slice();
        changed[at] = byte;
        check(changed);
      }),
      { numRuns: 2000 },
    );
  });

  test('any value in any field gives an answer, never a crash', () => {
    const keys = Object.keys(record());
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.jsonValue(), (key, value) => {
        const result = decode(bytesOf(JSON.stringify({ ...record(), [key]: value })));
        expect(['accepted', 'refused']).toContain(result.kind);
      }),
      { numRuns: 1000 },
    );
  });
});
