// SPIFFE bundle documents: conformance to the standard, with certificates of our CA and of openssl, and hostile ones.

import { execFileSync } from 'node:child_process';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { createLocalJWKSet } from 'jose';
import { describe, expect, test } from 'vitest';
import { CLIENT_AUTH } from '../../../src/identity/certificate.ts';
import { verifyChain } from '../../../src/identity/chain.ts';
import {
  decodeSpiffeBundle,
  encodeSpiffeBundle,
  trustBundleOf,
} from '../../../src/identity/spiffe-bundle.ts';
import { DOMAIN, enrolled, issue, issueCa, openCa, temporaryDirectory } from './fixture.ts';

type Entry = Record<string, unknown>;
interface Document {
  spiffe_sequence?: unknown;
  spiffe_refresh_hint?: unknown;
  keys: Entry[];
}

/** The entry that represents this certificate, as the standard has it. */
const entryOf = (der: Uint8Array): Entry => {
  const jwk = createPublicKey(
    new X509Certificate(der).publicKey.export({ type: 'spki', format: 'pem' }),
  ).export({
    format: 'jwk',
  });
  return { ...jwk, use: 'x509-svid', x5c: [Buffer.from(der).toString('base64')] };
};

const documentOf = (keys: Entry[], more: object = {}): string =>
  JSON.stringify({ spiffe_sequence: 7, spiffe_refresh_hint: 600, keys, ...more });

const decode = (text: string) => decodeSpiffeBundle(text, DOMAIN);

/** A self-signed CA that openssl makes. */
const opensslCa = async (
  keyArgs: string[],
  uri: string | undefined = `spiffe://${DOMAIN}`,
): Promise<Uint8Array> => {
  const directory = await temporaryDirectory();
  const config = join(directory, 'ca.cnf');
  const san = uri === undefined ? '' : `subjectAltName=URI:${uri}\n`;
  writeFileSync(
    config,
    `[req]\ndistinguished_name=dn\nx509_extensions=ca\nprompt=no\n[dn]\nO=example\n[ca]\nbasicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n${san}`,
  );
  const out = join(directory, 'ca.der');
  const key = join(directory, 'key.pem');
  const run = (args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  run(['genpkey', ...keyArgs, '-out', key]);
  run([
    'req',
    '-x509',
    '-new',
    '-key',
    key,
    '-config',
    config,
    '-days',
    '30',
    '-outform',
    'DER',
    '-out',
    out,
  ]);
  return new Uint8Array(readFileSync(out));
};
const EC = (curve: string) => ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`];
const RSA = (bits: number, ...more: string[]) => [
  '-algorithm',
  'RSA',
  '-pkeyopt',
  `rsa_keygen_bits:${bits}`,
  ...more,
];

describe("this domain's bundle", () => {
  test('has the members that the standard asks for, and none that it forbids', async () => {
    const ca = await openCa();
    const text = encodeSpiffeBundle(ca.trustBundle);
    const { keys, ...rest } = JSON.parse(text) as Document;
    const [der] = ca.trustBundle.certificates;
    expect(rest).toEqual({ spiffe_sequence: expect.any(Number), spiffe_refresh_hint: 300 });
    expect(keys).toEqual([
      {
        use: 'x509-svid',
        kty: 'EC',
        crv: 'P-256',
        x: expect.any(String),
        y: expect.any(String),
        x5c: [Buffer.from(der ?? []).toString('base64')],
      },
    ]);
    // Readers of plain JWK sets take it, too.
    expect(createLocalJWKSet({ keys: keys.map((key) => ({ ...key, kty: 'EC' })) })).toBeTypeOf('function');
  });

  test('verifies what the domain signs, once a partner has decoded it', async () => {
    const ca = await openCa();
    const node = await enrolled(ca, 'n1');
    const decoded = trustBundleOf(decode(encodeSpiffeBundle(ca.trustBundle)));
    expect(verifyChain(node.certificateChain, decoded, Date.now(), CLIENT_AUTH).kind).toBe('verified');
  });

  test('is the same text whatever the order of its CAs, and comes back as it was', async () => {
    const [a, b] = [(await issueCa()).der, (await issueCa()).der];
    const one = encodeSpiffeBundle({ trustDomain: DOMAIN, certificates: [a, b] }, { sequence: 9n });
    expect(encodeSpiffeBundle({ trustDomain: DOMAIN, certificates: [b, a] }, { sequence: 9n })).toBe(one);
    const decoded = decode(one);
    expect(decoded).toMatchObject({ trustDomain: DOMAIN, sequence: 9n, refreshHint: 300, text: one });
    expect(encodeSpiffeBundle(trustBundleOf(decoded), { sequence: 9n })).toBe(one);
  });

  test('has a higher sequence when a CA was added, without anything being stored', async () => {
    const old = await issueCa({ notBefore: Date.now() - 900_000 });
    const next = await issueCa({ notBefore: Date.now() - 100_000 });
    const sequence = (...certificates: Uint8Array[]) =>
      decode(encodeSpiffeBundle({ trustDomain: DOMAIN, certificates })).sequence ?? 0n;
    expect(sequence(old.der, next.der)).toBeGreaterThan(sequence(old.der));
  });

  test('is not made of what nobody would take', async () => {
    const foreign = await issueCa({ uris: ['spiffe://other.example'] });
    expect(() => encodeSpiffeBundle({ trustDomain: DOMAIN, certificates: [foreign.der] })).toThrow(
      /the CA of spiffe:\/\/other\.example/,
    );
  });

  test('may be empty, and keeps sequences of 64 bits', () => {
    const text = encodeSpiffeBundle({ trustDomain: DOMAIN, certificates: [] }, { sequence: 2n ** 64n - 1n });
    expect(decode(text)).toMatchObject({ certificates: [], sequence: 2n ** 64n - 1n });
  });
});

describe("a partner's bundle", () => {
  test.each([
    ['P-256', EC('P-256')],
    ['P-384', EC('P-384')],
    ['P-521', EC('P-521')],
    ['RSA of 2048 bits', RSA(2048)],
  ])('of openssl with %s is taken', async (_, args) => {
    const der = await opensslCa(args);
    const { certificates, sequence, refreshHint } = decode(documentOf([entryOf(der)]));
    expect({ sequence, refreshHint }).toEqual({ sequence: 7n, refreshHint: 600 });
    const { fingerprint256 } = new X509Certificate(der);
    expect(certificates.map((one) => one.fingerprint)).toEqual([
      fingerprint256.replaceAll(':', '').toLowerCase(),
    ]);
  });

  test('may have a CA without a URI, or one that ends in a slash, as the example of the standard', async () => {
    const bare = await issueCa({ uris: [] });
    const slash = await issueCa({ uris: [`spiffe://${DOMAIN}/`] });
    expect(decode(documentOf([entryOf(bare.der), entryOf(slash.der)])).certificates).toHaveLength(2);
  });

  test('is read without what is to be ignored: unknown uses and types, no certificate, all certificates but the first', async () => {
    const [ca, another] = [await issueCa(), await issueCa()];
    const good = entryOf(ca.der);
    const { x5c: _, ...bare } = good;
    const text = documentOf(
      [
        { ...good, use: 'wit-svid' },
        { ...good, use: 'X509-SVID' },
        { ...good, use: undefined },
        { kty: 'OKP', crv: 'Ed25519', x: 'AA', use: 'x509-svid', x5c: ['!'] },
        bare,
        { ...good, x5c: [] },
        {
          ...good,
          x5c: [Buffer.from(ca.der).toString('base64'), Buffer.from(another.der).toString('base64'), 7],
        },
        { kty: 'EC', use: 'jwt-svid', kid: 'k1', crv: 'P-256', x: 'AA', y: 'AA' },
        { kty: 'EC', use: 'jwt-svid', crv: 'P-256', x: 'AA', y: 'AA' },
      ],
      { another: { member: [1.5, true] } },
    );
    const { certificates, jwtKeyIds, ignored } = decode(text);
    expect(certificates.map(({ der }) => der)).toEqual([ca.der]);
    expect({ jwtKeyIds, ignored }).toEqual({ jwtKeyIds: ['k1'], ignored: 7 });
  });

  test('needs neither sequence nor hint', async () => {
    const text = JSON.stringify({ keys: [entryOf((await issueCa()).der)] });
    expect(decode(text)).toMatchObject({ sequence: undefined, refreshHint: undefined });
  });

  test('without a key is a good one: it takes all back', () => {
    expect(decode('{"keys": []}').certificates).toEqual([]);
  });
});

describe('refused whole is a bundle', () => {
  test.each<[string, (good: Entry) => string, RegExp]>([
    ['that is no JSON', () => '<html>', /not JSON/],
    ['that is no object', () => '[]', /not an object/],
    ['without keys', () => '{}', /no array "keys"/],
    ['whose keys are no array', () => '{"keys": {}}', /no array "keys"/],
    [
      'with members that are there twice',
      (good) => `{"keys":[],"keys":[${JSON.stringify(good)}]}`,
      /"keys" is there twice/,
    ],
    ['with a key that is no object', () => documentOf([]).replace('[]', '[7]'), /keys\[0\] is not an object/],
    ['with a key of no type', ({ kty: _, ...rest }) => documentOf([rest]), /keys\[0\] has no "kty"/],
    ['with a private key', (good) => documentOf([{ ...good, use: 'other', d: 'AA' }]), /published it/],
    [
      'with a sequence that is no number',
      (good) => documentOf([good], { spiffe_sequence: '7' }),
      /"spiffe_sequence"/,
    ],
    ['with a sequence below 0', (good) => documentOf([good], { spiffe_sequence: -1 }), /"spiffe_sequence"/],
    ['with half a sequence', (good) => documentOf([good], { spiffe_sequence: 1.5 }), /"spiffe_sequence"/],
    [
      'with a sequence past 64 bits',
      (good) => documentOf([good]).replace(':7,', ':18446744073709551616,'),
      /"spiffe_sequence"/,
    ],
    [
      'with a hint of centuries',
      (good) => documentOf([good], { spiffe_refresh_hint: 1e10 }),
      /"spiffe_refresh_hint"/,
    ],
    [
      'with more than 64 keys',
      (good) => documentOf(Array.from({ length: 65 }, () => ({ ...good, use: 'x' }))),
      /more than 64/,
    ],
    [
      'with more than 16 certificates',
      (good) => documentOf(Array.from({ length: 17 }, () => good)),
      /more than 16/,
    ],
    ['with a certificate twice', (good) => documentOf([good, good]), /there twice/],
    ['that is too long', (good) => documentOf([good], { x: 'x'.repeat(140_000) }), /longer than 131072/],
    ['with x5c that is no list', (good) => documentOf([{ ...good, x5c: 'AA' }]), /x5c is not an array/],
    ['with PEM for DER', (good) => documentOf([{ ...good, x5c: ['-----BEGIN'] }]), /x5c\[0\] is not base64/],
    [
      'with a certificate that is none',
      (good) => documentOf([{ ...good, x5c: ['AAAA'] }]),
      /keys\[0\] holds no certificate/,
    ],
    [
      'with an endless certificate',
      (good) => documentOf([{ ...good, x5c: ['A'.repeat(40_000)] }]),
      /longer than a certificate/,
    ],
    ['without its key beside it', ({ x: _, ...rest }) => documentOf([rest]), /keys\[0\]\.x is not/],
  ])('%s', async (_, make, why) => {
    const good = entryOf((await issueCa()).der);
    expect(() => decode(make(good))).toThrow(why);
  });

  test('whose key is not the one that its certificate holds', async () => {
    const [a, b] = [entryOf((await issueCa()).der), entryOf((await issueCa()).der)];
    expect(() => decode(documentOf([{ ...a, x: b['x'], y: b['y'] }]))).toThrow(
      /another key than its certificate/,
    );
  });

  test.each<[string, () => Promise<{ der: Uint8Array }>, RegExp]>([
    ['a leaf', () => issue({ uris: [`spiffe://${DOMAIN}/node/n1`] }), /no CA's/],
    ['a CA that may not certify', () => issueCa({ usages: ['revoke'] }), /no CA's/],
    [
      "another domain's CA",
      () => issueCa({ uris: ['spiffe://other.example'] }),
      /the CA of spiffe:\/\/other\.example/,
    ],
    ['a domain whose name goes on', () => issueCa({ uris: [`spiffe://${DOMAIN}.evil`] }), /the CA of/],
    ['a CA with a path', () => issueCa({ uris: [`spiffe://${DOMAIN}/ca`] }), /the CA of/],
    ['a CA of two domains', () => issueCa({ uris: [`spiffe://${DOMAIN}`, 'spiffe://b'] }), /two URIs/],
    [
      'what nobody knows, marked critical',
      () => issueCa({ strangeCritical: true }),
      /no certificate that can be read/,
    ],
  ])('with %s', async (_, make, why) => {
    const [good, bad] = [await issueCa(), await make()];
    expect(() => decode(documentOf([entryOf(good.der), entryOf(bad.der)]))).toThrow(why);
  });

  test.each<[string, string[], RegExp]>([
    ['RSA of 1024 bits', RSA(1024), /RSA key of 1024 bits/],
    ['RSA with the exponent 3', RSA(2048, '-pkeyopt', 'rsa_keygen_pubexp:3'), /exponent 3/],
    ['a curve of 192 bits', EC('prime192v1'), /not on P-256|neither/],
    ['the curve of another field', EC('secp256k1'), /holds a key on secp256k1/],
    ['Ed25519 said to be EC', ['-algorithm', 'ED25519'], /neither EC nor RSA/],
  ])('with a key that is weak or unknown: %s', async (_, args, why) => {
    const der = await opensslCa(args);
    const { kty: said, ...rest } = { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', n: 'AA', e: 'AQAB' };
    const kty = args.includes('RSA') ? 'RSA' : said;
    const entry = { ...rest, kty, use: 'x509-svid', x5c: [Buffer.from(der).toString('base64')] };
    expect(() => decode(documentOf([entry]))).toThrow(why);
  });

  test('with any byte of its certificate changed, unless that leaves the key as it was', async () => {
    const ca = await openCa();
    const [der] = ca.trustBundle.certificates;
    if (der === undefined) throw new Error('no CA');
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = der.slice();
        changed[at] = (changed[at] ?? 0) ^ change;
        const entry = { ...entryOf(der), x5c: [Buffer.from(changed).toString('base64')] };
        try {
          const trusted = trustBundleOf(decode(documentOf([entry])));
          // Its signature is nobody's business: an anchor is trusted for where it came from. Its key is as it was.
          const [one] = trusted.certificates;
          expect(
            new X509Certificate(one ?? changed).publicKey.equals(new X509Certificate(der).publicKey),
          ).toBe(true);
        } catch (error) {
          expect(String(error)).toMatch(/no SPIFFE bundle that can be taken/);
        }
      }),
      { numRuns: 150 },
    );
  });

  test('under a trust domain that is none', () => {
    expect(() => decodeSpiffeBundle('{"keys": []}', 'Not A Domain')).toThrow(/is not a trust domain/);
  });
});
