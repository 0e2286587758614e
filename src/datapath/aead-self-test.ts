// Whether an AEAD tier may be trusted with packets on this machine: a known answer, agreement with the reference
// around every block boundary, the refusal of forgeries, and no byte touched outside the agreed scratch space.

import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import type { Arena } from '../ffi/memory.ts';
import type { Aead } from './aead.ts';

const TAG = 16;
const HEADROOM = 64;
const TAILROOM = 16;
const LENGTHS = [0, 1, 15, 16, 17, 32, 63, 64, 65, 112, 127, 128, 129, 255, 256, 1023, 1420, 1424, 1500];
const REGION = 2048;
/** Past 32 bits, so that both halves of the nonce count. */
const COUNTER = 0x01_0203_0405;

/** RFC 8439 with key 00..1f, COUNTER, no associated data, plaintext 00..13: OpenSSL and noble agree on it. */
const KNOWN_ANSWER = '318208d3d7ceb5cbdb140622c00fa949b6c3ec543608758a2d27358af4e4d2d540e38ec8';
const KNOWN_LENGTH = 20;

export const passesSelfTest = (aead: Aead, arena: Arena): boolean => {
  const { bytes } = arena;
  const key = arena.allocate(32);
  const plain = arena.allocate(REGION) + HEADROOM;
  const sealed = arena.allocate(REGION) + HEADROOM;
  const opened = arena.allocate(REGION) + HEADROOM;
  for (let i = 0; i < 32; i++) bytes[key + i] = i;
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(COUNTER), true);
  const keyBytes = bytes.slice(key, key + 32);

  const fill = (length: number): Uint8Array => {
    for (let i = 0; i < length; i++) bytes[plain + i] = i & 0xff;
    return bytes.slice(plain, plain + length);
  };

  fill(KNOWN_LENGTH);
  aead.seal(key, COUNTER, plain, KNOWN_LENGTH, sealed);
  const answer = bytes.subarray(sealed, sealed + KNOWN_LENGTH + TAG);
  if (Buffer.from(answer).toString('hex') !== KNOWN_ANSWER) return false;

  for (const length of LENGTHS) {
    const text = fill(length);
    aead.seal(key, COUNTER, plain, length, sealed);
    const message = bytes.slice(sealed, sealed + length + TAG);
    if (Buffer.compare(message, chacha20poly1305(keyBytes, nonce).encrypt(text)) !== 0) return false;

    // What stands behind the message in a received batch must survive.
    const end = sealed + length + TAG;
    bytes.fill(0xa5, end, end + TAILROOM);
    if (!aead.open(key, COUNTER, sealed, length, opened)) return false;
    if (Buffer.compare(bytes.subarray(opened, opened + length), text) !== 0) return false;
    for (let i = 0; i < TAILROOM; i++) if (bytes[end + i] !== 0xa5) return false;

    for (const flip of [0, length, length + TAG - 1]) {
      bytes.set(message, sealed);
      bytes[sealed + flip] = (bytes[sealed + flip] ?? 0) ^ 0x80;
      if (aead.open(key, COUNTER, sealed, length, opened)) return false;
    }
    bytes.set(message, sealed);
    if (aead.open(key, COUNTER + 1, sealed, length, opened)) return false;
  }
  bytes.fill(0, key, key + 32);
  return true;
};
