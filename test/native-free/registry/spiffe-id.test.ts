import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import {
  formatSpiffeId,
  parseName,
  parseTrustDomain,
  readSpiffeId,
  type SpiffeId,
} from '../../../native-free/registry/spiffe-id.ts';

test('a SPIFFE ID reads back as it was written', () => {
  const ids: SpiffeId[] = [
    { kind: 'node', trustDomain: 'aws-prod.example', name: 'n1' },
    { kind: 'admin', trustDomain: 'a', name: 'root' },
    { kind: 'registry', trustDomain: 'x_y.z' },
  ];
  for (const id of ids) expect(readSpiffeId(formatSpiffeId(id))).toEqual(id);
});

test('any text is either the one spelling of an ID, or no ID', () => {
  const check = (text: string) => {
    const id = readSpiffeId(text);
    if (id !== undefined) expect(formatSpiffeId(id)).toBe(text);
  };
  fc.assert(fc.property(fc.string(), check));
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('spiffe://', 'a', '.', '/', 'node', 'admin', 'registry', '-', '\n', '@')),
      (parts) => check(parts.join('')),
    ),
    { numRuns: 2000 },
  );
});

test('names of trust domains follow the SPIFFE rules, node names the DNS ones', () => {
  expect(parseTrustDomain('a'.repeat(255))).toHaveLength(255);
  expect(parseTrustDomain('prod_1.example-x')).toBe('prod_1.example-x');
  for (const bad of ['', 'A', 'a b', 'a/b', 'a:1', 'ä', 'a\n', 'a'.repeat(256)]) {
    expect(() => parseTrustDomain(bad)).toThrow(Vl3Error);
  }
  expect(parseName('node', 'n'.repeat(63))).toHaveLength(63);
  for (const bad of ['', '-a', 'a-', 'a.b', 'a_b', 'A', 'a\n', 'n'.repeat(64)]) {
    expect(() => parseName('node', bad)).toThrow(/no good as node name/);
  }
});

test('an error quotes hostile text short and printable', () => {
  expect(() => parseName('node', `\u001b[31m${'x'.repeat(1000)}`)).toThrow(/^"\?\[31mx{75}\.\.\." /);
});
