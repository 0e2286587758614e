import fc from 'fast-check';
import { expect, test } from 'vitest';
import { noblePrimitives as noble } from '../../../native-free/noise/noble-primitives.ts';
import { bareAead } from '../../../src/noise/bare-aead.ts';
import { bareX25519 } from '../../../src/noise/bare-x25519.ts';
import { objectAead } from '../../../src/noise/object-aead.ts';
import { objectX25519 } from '../../../src/noise/object-x25519.ts';
import { opensslPrimitives as openssl } from '../../../src/noise/openssl-primitives.ts';
import { primitivesContract } from '../../native-free/noise/primitives-contract.ts';

primitivesContract(openssl);
primitivesContract({ ...openssl, ...objectX25519, ...objectAead, name: 'key objects' });

test('functions that disagree with the public interface are not used', () => {
  const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 1);
  expect(bareX25519(objectX25519)).toBeDefined();
  const other = { ...objectX25519, publicKey: (key: Uint8Array) => flip(objectX25519.publicKey(key)) };
  expect(bareX25519(other)).toBeUndefined();
  const known = { ...objectAead, xseal: noble.xseal, xopen: noble.xopen };
  expect(bareAead(known)).toBeDefined();
  expect(bareAead({ ...known, seal: (...of) => flip(known.seal(...of)) })).toBeUndefined();
});

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

test('OpenSSL and noble agree on whatever they are given', () => {
  fc.assert(
    fc.property(
      bytes(32),
      bytes(32),
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ maxLength: 40 }),
      fc.bigInt(0n, 2n ** 64n - 1n),
      bytes(24),
      (key, other, data, associated, counter, nonce) => {
        expect(openssl.publicKey(key)).toEqual(noble.publicKey(key));
        expect(openssl.dh(key, other)).toEqual(noble.dh(key, other));
        expect(openssl.hash(data, associated)).toEqual(noble.hash(data, associated));
        expect(openssl.hmac(associated, data)).toEqual(noble.hmac(associated, data));
        const sealed = openssl.seal(key, counter, data, associated);
        expect(sealed).toEqual(noble.seal(key, counter, data, associated));
        expect(noble.open(key, counter, sealed, associated)).toEqual(data);
        expect(openssl.open(key, counter, sealed, associated)).toEqual(data);
        const forged = sealed.map((byte, i) =>
          i === Number(counter % BigInt(sealed.length)) ? byte ^ 4 : byte,
        );
        expect(openssl.open(key, counter, forged, associated)).toBeUndefined();
        const xsealed = openssl.xseal(key, nonce, data, associated);
        expect(xsealed).toEqual(noble.xseal(key, nonce, data, associated));
        expect(openssl.xopen(key, nonce, xsealed, associated)).toEqual(data);
        const xforged = xsealed.map((byte, i) =>
          i === Number(counter % BigInt(xsealed.length)) ? byte ^ 4 : byte,
        );
        expect(openssl.xopen(key, nonce, xforged, associated)).toBeUndefined();
      },
    ),
    { numRuns: 60 },
  );
});
