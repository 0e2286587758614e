// What a domain says of itself and what a node says of its attachments: one canonical form each, and nothing else is read.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeAttestation, encodeAttestation } from '../../../native-free/ca/attestation.ts';
import { decodeVerifiedStatement, encodeStatement } from '../../../native-free/ca/statement.ts';
import type { SignedRecord } from '../../../native-free/registry/record.ts';

const HOME = 'home.example';
const statement = {
  trustDomain: HOME,
  authorities: ['AAAA'],
  revoked: [
    { node: 'n1', until: 5 },
    { node: 'n2', until: 4 },
  ],
  sequence: 7,
};
const attestation = {
  ...{ trustDomain: HOME, network: 'red', networkUid: 'u1', node: 'n1', sequence: 3, notAfter: 1000 },
  attachments: [
    {
      workload: 'web',
      namespace: 'shop',
      serviceAccount: '',
      labels: { app: 'ledger', zone: 'a' },
      addresses: ['10.0.0.1'],
    },
  ],
};

const sealed = (record: Uint8Array): SignedRecord => ({
  record,
  signature: new Uint8Array(64),
  certificateChain: [new Uint8Array(1)],
});
/** Signatures are somebody else's business here. */
const anyStatement = () => ({ trustDomain: HOME });
const anyRecord = () => ({ trustDomain: HOME, node: 'n1', notAfter: 2000 });
const expected = { network: 'red', networkUid: 'u1', home: HOME, node: 'n1' };

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

test('both read back as written', () => {
  const decoded = decodeVerifiedStatement(sealed(encodeStatement(statement)), anyStatement, HOME, 0);
  expect(decoded).toEqual({ kind: 'accepted', statement });
  const signed = sealed(encodeAttestation(attestation));
  expect(decodeAttestation(signed, anyRecord, 0, expected)).toEqual(attestation);
});

test.each([
  ['white space', (one: string) => one.replace(':', ': ')],
  ['another order', (one: string) => one.replace(/^\{("[^"]*":[^,]*),/, '{').replace(/\}$/, ',$1}')],
  ['a member twice', (one: string) => one.replace('{', '{"sequence":1,')],
  ['a member that nobody knows', (one: string) => one.replace(/\}$/, ',"x":1}')],
  ['something after it', (one: string) => `${one} `],
])('with %s neither is taken', (_, change) => {
  const altered = (one: Uint8Array): SignedRecord => sealed(bytes(change(text(one))));
  expect(decodeVerifiedStatement(altered(encodeStatement(statement)), anyStatement, HOME, 0)).toMatchObject({
    kind: 'refused',
  });
  expect(() => decodeAttestation(altered(encodeAttestation(attestation)), anyRecord, 0, expected)).toThrow(
    /is not taken/,
  );
});

test('of another domain, node or network, too early or too late, neither is taken', () => {
  const signed = sealed(encodeStatement(statement));
  const stranger = () => ({ trustDomain: 'other.example' });
  expect(decodeVerifiedStatement(signed, stranger, HOME, 0).kind).toBe('refused');
  expect(decodeVerifiedStatement(signed, stranger, 'other.example', 0).kind).toBe('refused');
  const said = sealed(encodeAttestation(attestation));
  const of = (change: Partial<typeof expected>, now = 0) =>
    expect(() => decodeAttestation(said, anyRecord, now, { ...expected, ...change }));
  of({ node: 'n2' }).toThrow(/signed it for/);
  of({ network: 'green' }).toThrow(/is of network/);
  of({ networkUid: 'u2' }).toThrow(/is of network/);
  of({ home: 'other.example' }).toThrow(/is of network "red" \(u1\) of home/);
  of({}, 1000).toThrow(/has expired/);
  const endless = sealed(encodeAttestation({ ...attestation, notAfter: 3000 }));
  expect(() => decodeAttestation(endless, anyRecord, 0, expected)).toThrow(/outlive its SVID/);
  const ahead = sealed(encodeAttestation({ ...attestation, sequence: 400 * 86_400_000 }));
  expect(() => decodeAttestation(ahead, anyRecord, 0, expected)).toThrow(/far ahead/);
});

test('revoked nodes are in order and none twice', () => {
  const [first, second] = statement.revoked;
  if (first === undefined || second === undefined) throw new Error('there are two');
  expect(() => encodeStatement({ ...statement, revoked: [second, first] })).toThrow(/not in order/);
  expect(() => encodeStatement({ ...statement, revoked: [first, first] })).toThrow(/not in order/);
});

test('whatever bytes come, a statement is refused and not thrown at', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (some) => {
      expect(decodeVerifiedStatement(sealed(some), anyStatement, HOME, 0).kind).toBe('refused');
    }),
  );
});
