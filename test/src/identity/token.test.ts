import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { formatHostPort } from '../../../native-free/host-port.ts';
import { tokenId } from '../../../native-free/registry/token-rules.ts';
import { parseRegistryAddress } from '../../../src/identity/registry-address.ts';
import {
  createTokenSecret,
  formatJoinToken,
  hashSecret,
  type JoinToken,
  parseJoinToken,
} from '../../../src/identity/token.ts';

const token = (changes: Partial<JoinToken> = {}): JoinToken => ({
  registries: ['registry.example:7443', '[2001:db8::1]:7443'],
  trustDomain: 'aws-prod.example',
  caFingerprint: new Uint8Array(createHash('sha256').update('ca').digest()),
  secret: createTokenSecret(),
  ...changes,
});

/** Wraps any JSON as a token with the right length and checksum. */
const wrap = (json: string): string => {
  const body = Buffer.concat([Buffer.alloc(2), Buffer.from(json)]);
  body.writeUInt16BE(body.length - 2);
  const check = createHash('sha256').update(body).digest().subarray(0, 4);
  return `vl3j1.${Buffer.concat([body, check]).toString('base64url')}`;
};

test('a join token reads back what was put in', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.domain(), fc.integer({ min: 1, max: 65_535 })), { minLength: 1, maxLength: 16 }),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      (hosts, caFingerprint) => {
        const registries = hosts.map(([host, port]) => `${host.slice(0, 200)}:${port}`);
        const made = token({ registries, caFingerprint });
        expect(parseJoinToken(formatJoinToken(made))).toEqual(made);
      },
    ),
  );
});

test('a token is one word, and white space around it does not matter', () => {
  const made = token();
  const text = formatJoinToken(made);
  expect(text).toMatch(/^vl3j1\.[A-Za-z0-9_-]+$/);
  expect(parseJoinToken(`\n  ${text}\r\n`)).toEqual(made);
});

test('an address without a port gets the default one', () => {
  expect(parseJoinToken(formatJoinToken(token({ registries: ['192.0.2.7'] }))).registries).toEqual([
    '192.0.2.7:7443',
  ]);
});

test('a token that is cut anywhere is called truncated', () => {
  const text = formatJoinToken(token());
  for (let length = 'vl3j1.'.length; length < text.length; length++) {
    expect(() => parseJoinToken(text.slice(0, length))).toThrow(/truncated/);
  }
});

test.each(['', 'vl3', 'hello', 'eyJhbGciOi', 'vl3j', 'Vl3j1.AAAA'])('%j is not a join token', (text) => {
  expect(() => parseJoinToken(text)).toThrow(/not a join token/);
});

test('a token of a later version says to upgrade', () => {
  expect(() => parseJoinToken('vl3j2.AAAA')).toThrow(/upgrade vl3/);
});

test('a token with one character changed is refused', () => {
  const text = formatJoinToken(token());
  const alphabet = 'ABCXYZabcxyz0189-_';
  fc.assert(
    fc.property(
      fc.integer({ min: 6, max: text.length - 1 }),
      fc.constantFrom(...alphabet),
      (at, character) => {
        fc.pre(text[at] !== character);
        expect(() => parseJoinToken(text.slice(0, at) + character + text.slice(at + 1))).toThrow(Vl3Error);
      },
    ),
    { numRuns: 500 },
  );
});

test('a token with something behind it, inside it, or of a second token is refused', () => {
  const text = formatJoinToken(token());
  for (const bad of [
    `${text}A`,
    `${text}AAAA`,
    `${text}=`,
    `${text.slice(0, 20)} ${text.slice(20)}`,
    text + text,
  ]) {
    expect(() => parseJoinToken(bad)).toThrow(/damaged/);
  }
  expect(() => parseJoinToken(`vl3j1.${'A'.repeat(100_000)}`)).toThrow(Vl3Error);
});

test('any text at all gives a token or a Vl3Error', () => {
  const check = (text: string) => {
    try {
      parseJoinToken(text);
    } catch (error) {
      expect(error).toBeInstanceOf(Vl3Error);
    }
  };
  fc.assert(fc.property(fc.string(), check));
  fc.assert(fc.property(fc.string(), (text) => check(`vl3j1.${text}`)));
  fc.assert(fc.property(fc.base64String(), (text) => check(`vl3j1.${text}`)));
  fc.assert(fc.property(fc.json(), (json) => check(wrap(json))));
});

test.each([
  ['a field is missing', ({ s: _, ...rest }: Record<string, unknown>) => rest],
  ['there is a field too many', (fields: Record<string, unknown>) => ({ ...fields, x: 1 })],
  ['there is no registry', (fields: Record<string, unknown>) => ({ ...fields, r: [] })],
  ['a registry is no address', (fields: Record<string, unknown>) => ({ ...fields, r: ['a b'] })],
  ['a registry has a path', (fields: Record<string, unknown>) => ({ ...fields, r: ['a:1/x'] })],
  ['a registry is user@host', (fields: Record<string, unknown>) => ({ ...fields, r: ['u@a:1'] })],
  ['the secret is short', (fields: Record<string, unknown>) => ({ ...fields, s: 'AAAA' })],
  ['the fingerprint is short', (fields: Record<string, unknown>) => ({ ...fields, f: 'AAAA' })],
  ['the trust domain is none', (fields: Record<string, unknown>) => ({ ...fields, d: 'A B' })],
])('a well-formed token is refused when %s', (_, change) => {
  const text = formatJoinToken(token());
  const json = Buffer.from(text.slice(6), 'base64url').subarray(2, -4).toString();
  expect(() => parseJoinToken(wrap(json))).not.toThrow();
  expect(() => parseJoinToken(wrap(JSON.stringify(change(JSON.parse(json)))))).toThrow(/damaged/);
});

test('no error about a token shows its secret', () => {
  const made = token();
  const text = formatJoinToken(made);
  const json = Buffer.from(text.slice(6), 'base64url').subarray(2, -4).toString();
  for (const bad of [text.slice(0, -1), `${text}A`, wrap(json.replace('"r"', '"R"')), wrap(`${json}x`)]) {
    try {
      parseJoinToken(bad);
      expect.unreachable();
    } catch (error) {
      expect(String(error) + JSON.stringify(error)).not.toContain(made.secret.slice(0, 8));
      expect(error).not.toHaveProperty('cause');
    }
  }
});

test('the registry stores a hash whose start is the id', () => {
  const made = token();
  const hash = hashSecret(made.secret);
  expect(hash).toMatch(/^[0-9a-f]{64}$/);
  expect(tokenId(hash)).toBe(hash.slice(0, 16));
  expect(hashSecret(createTokenSecret())).not.toBe(hash);
});

test('addresses of registries read back as they are written', () => {
  for (const text of ['registry.example:7443', '192.0.2.1:1', '[2001:db8::1]:65535', 'localhost:7443']) {
    expect(formatHostPort(parseRegistryAddress(text))).toBe(text);
  }
  for (const bad of [
    '',
    ':7443',
    'a:0',
    'a:65536',
    'a:b',
    '2001:db8::1',
    '[x]:1',
    '[192.0.2.1]:1',
    'a b',
    '1.2.3.400',
    'a/b',
    'a:1:2',
    '[fe80::1%e]:1',
    'registry.7:7443',
    'registry.0x7:7443',
  ]) {
    expect(() => parseRegistryAddress(bad)).toThrow(/not a registry's address/);
  }
});
