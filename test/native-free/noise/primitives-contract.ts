// The contract of Primitives: known answers, then what no implementation may get wrong. Run on every implementation.

import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';
import { describe, expect, test } from 'vitest';
import {
  readInitiationPayload,
  readInitiationStatic,
  readResponse,
  split,
  writeInitiation,
  writeResponse,
} from '../../../native-free/noise/ikpsk2.ts';
import { kdf1, kdf2, kdf3 } from '../../../native-free/noise/kdf.ts';
import type { Primitives } from '../../../native-free/noise/primitives.ts';
import { NOISE_IKPSK2 } from '../../vectors/noise-ikpsk2.ts';
import {
  BLAKE2S_ABC,
  CHACHA20_POLY1305,
  KDF,
  KEYED_BLAKE2S,
  LOW_ORDER_PUBLIC_KEYS,
  X25519,
  XCHACHA20_POLY1305,
} from '../../vectors/primitives.ts';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const count = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i);
const NOTHING = new Uint8Array(0);

export const primitivesContract = (primitives: Primitives): void => {
  describe(`primitives on ${primitives.name}`, () => {
    test('X25519 gives the answers of RFC 7748', () => {
      const alice = hexToBytes(X25519.alicePrivate);
      const bob = hexToBytes(X25519.bobPrivate);
      expect(bytesToHex(primitives.publicKey(alice))).toBe(X25519.alicePublic);
      expect(bytesToHex(primitives.publicKey(bob))).toBe(X25519.bobPublic);
      expect(primitives.dh(alice, hexToBytes(X25519.bobPublic))).toEqual(hexToBytes(X25519.shared));
      expect(primitives.dh(bob, hexToBytes(X25519.alicePublic))).toEqual(hexToBytes(X25519.shared));
    });

    test.each(LOW_ORDER_PUBLIC_KEYS)('no shared secret comes of the low-order key %s', (key) => {
      expect(primitives.dh(hexToBytes(X25519.alicePrivate), hexToBytes(key))).toBeUndefined();
    });

    test('BLAKE2s gives the answer of RFC 7693, in one part and in several', () => {
      expect(bytesToHex(primitives.hash(text('abc')))).toBe(BLAKE2S_ABC);
      expect(bytesToHex(primitives.hash(text('a'), NOTHING, text('bc')))).toBe(BLAKE2S_ABC);
    });

    test('keyed BLAKE2s has 16 bytes, under keys of 16 and 32', () => {
      expect(bytesToHex(primitives.mac(count(16), text('WireGuard')))).toBe(KEYED_BLAKE2S.key16);
      expect(bytesToHex(primitives.mac(count(32), text('WireGuard')))).toBe(KEYED_BLAKE2S.key32);
    });

    test('a mac key makes the same macs, knows them again, and is of no use once it is wiped', () => {
      const key = count(32);
      const ready = primitives.macKey(key);
      key.fill(0);
      for (const length of [1, 15, 63, 64, 65, 116, 128, 132]) {
        const mac = primitives.mac(count(32), count(length));
        expect(ready.mac(count(length))).toEqual(mac);
        const message = Uint8Array.of(9, 9, ...count(length), 9, ...mac, 9);
        expect(ready.verify(message, 2, length, length + 3)).toBe(true);
        for (const changed of [2, length + 1, length + 3, length + 18]) {
          const forged = message.map((byte, i) => (i === changed ? byte ^ 0x80 : byte));
          expect(ready.verify(forged, 2, length, length + 3)).toBe(false);
        }
      }
      ready.wipe();
      expect(ready.mac(count(3))).not.toEqual(primitives.mac(count(32), count(3)));
    });

    test.each(KDF)("the KDF gives wireguard-go's answers for key '$key'", (vector) => {
      const key = hexToBytes(vector.key);
      const input = hexToBytes(vector.input);
      const { first, second, third } = vector;
      expect(bytesToHex(kdf1(primitives, key, input))).toBe(first);
      expect(kdf2(primitives, key, input).map(bytesToHex)).toEqual([first, second]);
      expect(kdf3(primitives, key, input).map(bytesToHex)).toEqual([first, second, third]);
    });

    test('ChaCha20-Poly1305 gives the answer of RFC 8439, and takes it back', () => {
      const { counter, plaintext } = CHACHA20_POLY1305;
      const key = hexToBytes(CHACHA20_POLY1305.key);
      const associated = hexToBytes(CHACHA20_POLY1305.associated);
      const sealed = primitives.seal(key, counter, text(plaintext), associated);
      expect(bytesToHex(sealed)).toBe(CHACHA20_POLY1305.sealed);
      expect(primitives.open(key, counter, sealed, associated)).toEqual(text(plaintext));
    });

    test('whatever bit is changed, the tag does not verify', () => {
      const key = count(32);
      const associated = count(5);
      const sealed = primitives.seal(key, 7n, count(3), associated);
      for (let bit = 0; bit < sealed.length * 8; bit++) {
        const forged = sealed.slice();
        forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(primitives.open(key, 7n, forged, associated)).toBeUndefined();
      }
      expect(primitives.open(key, 8n, sealed, associated)).toBeUndefined();
      expect(primitives.open(key, 7n, sealed, count(4))).toBeUndefined();
      expect(primitives.open(count(32).reverse(), 7n, sealed, associated)).toBeUndefined();
    });

    test('what is too short for a tag does not open', () => {
      for (const length of [0, 1, 15]) {
        expect(primitives.open(count(32), 0n, count(length), NOTHING)).toBeUndefined();
        expect(primitives.xopen(count(32), count(24), count(length), NOTHING)).toBeUndefined();
      }
    });

    test('an empty packet seals to its tag and opens to nothing', () => {
      const sealed = primitives.seal(count(32), 2n ** 64n - 1n, NOTHING, NOTHING);
      expect(sealed.length).toBe(16);
      expect(primitives.open(count(32), 2n ** 64n - 1n, sealed, NOTHING)).toEqual(NOTHING);
    });

    test("XChaCha20-Poly1305 gives the draft's answer, takes it back, and refuses a forgery", () => {
      const key = hexToBytes(XCHACHA20_POLY1305.key);
      const nonce = hexToBytes(XCHACHA20_POLY1305.nonce);
      const associated = hexToBytes(XCHACHA20_POLY1305.associated);
      const plaintext = text(XCHACHA20_POLY1305.plaintext);
      const sealed = primitives.xseal(key, nonce, plaintext, associated);
      expect(bytesToHex(sealed)).toBe(XCHACHA20_POLY1305.sealed);
      expect(primitives.xopen(key, nonce, sealed, associated)).toEqual(plaintext);
      sealed[0] = (sealed[0] ?? 0) ^ 1;
      expect(primitives.xopen(key, nonce, sealed, associated)).toBeUndefined();
    });

    test('inputs are left as they were', () => {
      const key = count(32);
      const data = count(20);
      const sealed = primitives.seal(key, 0n, data, data);
      const before = sealed.slice();
      primitives.open(key, 0n, sealed, data);
      primitives.open(key, 1n, sealed, data);
      primitives.dh(key, hexToBytes(X25519.bobPublic));
      primitives.publicKey(key);
      expect([key, data, sealed]).toEqual([count(32), count(20), before]);
    });

    test("both ends of Noise's IKpsk2 give snow's vector, byte for byte", () => {
      ikpsk2Vector(primitives);
    });
  });
};

const ikpsk2Vector = (primitives: Primitives): void => {
  const vector = NOISE_IKPSK2;
  const prologue = hexToBytes(vector.prologue);
  const psk = hexToBytes(vector.psk);
  const keyOf = (privateKey: Uint8Array) => ({ privateKey, publicKey: primitives.publicKey(privateKey) });
  const initiator = keyOf(hexToBytes(vector.initiatorStatic));
  const responder = keyOf(hexToBytes(vector.responderStatic));
  expect(bytesToHex(responder.publicKey)).toBe(vector.responderPublic);
  const staticStatic = defined(primitives.dh(initiator.privateKey, responder.publicKey));
  const initiatorEphemeral = hexToBytes(vector.initiatorEphemeral);

  const initiation = defined(
    writeInitiation(
      primitives,
      prologue,
      initiator,
      initiatorEphemeral,
      responder.publicKey,
      staticStatic,
      hexToBytes(vector.initiation.payload),
    ),
  );
  const { ephemeral, encryptedStatic, encryptedPayload } = initiation;
  expect(bytesToHex(ephemeral) + bytesToHex(encryptedStatic) + bytesToHex(encryptedPayload)).toBe(
    vector.initiation.message,
  );

  const claim = defined(readInitiationStatic(primitives, prologue, responder, ephemeral, encryptedStatic));
  expect(claim.initiatorStatic).toEqual(initiator.publicKey);
  const consumed = defined(
    readInitiationPayload(primitives, claim.transcript, staticStatic, encryptedPayload),
  );
  expect(bytesToHex(consumed.payload)).toBe(vector.initiation.payload);
  expect(consumed.transcript).toEqual(initiation.transcript);

  const response = defined(
    writeResponse(
      primitives,
      consumed.transcript,
      hexToBytes(vector.responderEphemeral),
      ephemeral,
      initiator.publicKey,
      psk,
      hexToBytes(vector.response.payload),
    ),
  );
  expect(bytesToHex(response.ephemeral) + bytesToHex(response.encryptedPayload)).toBe(
    vector.response.message,
  );
  const completed = defined(
    readResponse(
      primitives,
      initiation.transcript,
      initiatorEphemeral,
      initiator,
      psk,
      response.ephemeral,
      response.encryptedPayload,
    ),
  );
  expect(bytesToHex(completed.payload)).toBe(vector.response.payload);
  expect(completed.transcript).toEqual(response.transcript);

  const keys = split(primitives, completed.transcript);
  for (const [i, { payload, message }] of vector.transport.entries()) {
    const key = defined(keys[i % 2]);
    const counter = BigInt(i >> 1);
    expect(bytesToHex(primitives.seal(key, counter, hexToBytes(payload), NOTHING))).toBe(message);
  }
};

const defined = <T>(value: T | undefined): T => {
  if (value === undefined) throw new Error('the step did not verify');
  return value;
};
