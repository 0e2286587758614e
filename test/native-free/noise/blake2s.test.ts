import { bytesToHex } from '@noble/hashes/utils.js';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blake2s, hmacBlake2s, MacKey } from '../../../native-free/noise/blake2s.ts';
import { noblePrimitives } from '../../../native-free/noise/noble-primitives.ts';

const bytes = (maxLength: number, minLength = 0) => fc.uint8Array({ minLength, maxLength });

test('BLAKE2s-256 of "abc" is what RFC 7693 says', () => {
  expect(bytesToHex(blake2s(new TextEncoder().encode('abc')))).toBe(
    '508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982',
  );
});

describe('whatever the bytes', () => {
  test('a hash is as @noble has it, in one part or many', () => {
    fc.assert(
      fc.property(fc.array(bytes(200), { maxLength: 4 }), (parts) => {
        expect(blake2s(...parts)).toEqual(noblePrimitives.hash(...parts));
      }),
    );
  });

  test('an HMAC is as @noble has it', () => {
    fc.assert(
      fc.property(bytes(64), bytes(200), bytes(40), (key, one, two) => {
        expect(hmacBlake2s(key, one, two)).toEqual(noblePrimitives.hmac(key, one, two));
      }),
    );
  });

  test('a mac is as @noble has it, and verifies where it stands', () => {
    fc.assert(
      fc.property(bytes(32, 1), bytes(200, 1), fc.nat(20), (key, data, at) => {
        const macKey = new MacKey(key);
        const mac = macKey.mac(data);
        expect(mac).toEqual(noblePrimitives.mac(key, data));
        const message = new Uint8Array(at + data.length + 16);
        message.set(data, at);
        message.set(mac, at + data.length);
        expect(macKey.verify(message, at, data.length, at + data.length)).toBe(true);
      }),
    );
  });

  test('one flipped bit, in the message or in its mac, is noticed', () => {
    fc.assert(
      fc.property(bytes(32, 1), bytes(148, 1), fc.nat(), (key, data, which) => {
        const macKey = new MacKey(key);
        const message = new Uint8Array([...data, ...macKey.mac(data)]);
        const bit = which % (message.length * 8);
        message[bit >> 3] = (message[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(macKey.verify(message, 0, data.length, data.length)).toBe(false);
      }),
    );
  });
});

test('macs under two keys do not disturb each other, nor hashes between them', () => {
  const [one, two] = [new MacKey(Uint8Array.of(1)), new MacKey(Uint8Array.of(2))];
  const data = Uint8Array.of(1, 2, 3);
  const before = [one.mac(data), two.mac(data)];
  blake2s(data);
  hmacBlake2s(data, data);
  expect([one.mac(data), two.mac(data)]).toEqual(before);
  expect(before[0]).not.toEqual(before[1]);
});

test('keys and messages of no length are refused', () => {
  expect(() => new MacKey(new Uint8Array(0))).toThrow('1 to 32 B');
  expect(() => new MacKey(new Uint8Array(33))).toThrow('1 to 32 B');
  expect(() => new MacKey(new Uint8Array(32)).mac(new Uint8Array(0))).toThrow('over something');
  expect(() => hmacBlake2s(new Uint8Array(65))).toThrow('too long');
});
