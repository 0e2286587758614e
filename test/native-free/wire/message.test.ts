import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  COOKIE_REPLY_LENGTH,
  CookieReply,
  INITIATION_LENGTH,
  Initiation,
  messageType,
  RESPONSE_LENGTH,
  Response,
  Transport,
} from '../../../native-free/wire/message.ts';

const message = (type: number, length: number): Uint8Array => {
  const bytes = Uint8Array.from({ length }, (_, i) => i);
  bytes.set([type, 0, 0, 0]);
  return bytes;
};

test.each([
  [1, INITIATION_LENGTH],
  [2, RESPONSE_LENGTH],
  [3, COOKIE_REPLY_LENGTH],
])('a message of type %i has exactly %i bytes', (type, length) => {
  expect(messageType(message(type, length))).toBe(type);
  expect(messageType(message(type, length - 1))).toBeUndefined();
  expect(messageType(message(type, length + 1))).toBeUndefined();
});

test('transport data has at least a header and a tag', () => {
  expect(messageType(message(4, 31))).toBeUndefined();
  expect(messageType(message(4, 32))).toBe(4);
  expect(messageType(message(4, 65535))).toBe(4);
});

test('reserved bytes that are not zero make another type', () => {
  const bytes = message(1, INITIATION_LENGTH);
  bytes[3] = 1;
  expect(messageType(bytes)).toBeUndefined();
});

test('no bytes at all can make the parsers throw, and at most one of them takes them', () => {
  const type = fc.integer({ min: 0, max: 5 });
  const length = fc.oneof(fc.constantFrom(0, 4, 31, 32, 64, 92, 148), fc.nat(200));
  fc.assert(
    fc.property(type, length, (type, length) => {
      const bytes = message(type, Math.max(4, length)).subarray(0, length);
      const parsed = [Initiation, Response, CookieReply, Transport].filter(
        (one) => one.parse(bytes) !== undefined,
      );
      expect(parsed.length).toBe(messageType(bytes) === undefined ? 0 : 1);
    }),
  );
});

test('fields lie where the whitepaper draws them', () => {
  const initiation = Initiation.parse(message(1, INITIATION_LENGTH));
  expect(initiation?.sender).toBe(0x07060504);
  expect([initiation?.ephemeral[0], initiation?.ephemeral.length]).toEqual([8, 32]);
  expect([initiation?.encryptedStatic[0], initiation?.encryptedStatic.length]).toEqual([40, 48]);
  expect([initiation?.encryptedTimestamp[0], initiation?.encryptedTimestamp.length]).toEqual([88, 28]);
  expect([initiation?.macs.mac1[0], initiation?.macs.mac1.length]).toEqual([116, 16]);
  expect([initiation?.macs.mac2[0], initiation?.macs.mac2.length]).toEqual([132, 16]);
  expect([initiation?.macs.beforeMac1.length, initiation?.macs.beforeMac2.length]).toEqual([116, 132]);

  const response = Response.parse(message(2, RESPONSE_LENGTH));
  expect([response?.sender, response?.receiver]).toEqual([0x07060504, 0x0b0a0908]);
  expect([response?.ephemeral[0], response?.ephemeral.length]).toEqual([12, 32]);
  expect([response?.encryptedNothing[0], response?.encryptedNothing.length]).toEqual([44, 16]);
  expect([response?.macs.mac1[0], response?.macs.mac2[0]]).toEqual([60, 76]);

  const cookie = CookieReply.parse(message(3, COOKIE_REPLY_LENGTH));
  expect(cookie?.receiver).toBe(0x07060504);
  expect([cookie?.nonce[0], cookie?.nonce.length]).toEqual([8, 24]);
  expect([cookie?.encryptedCookie[0], cookie?.encryptedCookie.length]).toEqual([32, 32]);

  const transport = Transport.parse(message(4, 48));
  expect(transport?.receiver).toBe(0x07060504);
  expect([transport?.counterLow, transport?.counterHigh]).toEqual([0x0b0a0908, 0x0f0e0d0c]);
  expect([transport?.sealedPacket[0], transport?.sealedPacket.length]).toEqual([16, 32]);
});

test('what is created parses back, counters past 32 bits included', () => {
  expect(Initiation.parse(Initiation.create(0xfffffffe).bytes)?.sender).toBe(0xfffffffe);
  const response = Response.parse(Response.create(1, 0x80000000).bytes);
  expect([response?.sender, response?.receiver]).toEqual([1, 0x80000000]);
  const transport = Transport.parse(Transport.create(3, 2 ** 53 - 1, 16).bytes);
  expect([transport?.receiver, transport?.counterLow, transport?.counterHigh]).toEqual([
    3, 0xffffffff, 0x1fffff,
  ]);
});
