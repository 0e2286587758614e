// The reference implementation of Primitives, on @noble: readable, portable, and slow (a handshake takes some 20 ms).
// The agent uses the one in src/noise.

import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { blake2s } from '@noble/hashes/blake2.js';
import { hmac } from '@noble/hashes/hmac.js';
import { MAC_LENGTH } from './constants.ts';
import { macKeyOf } from './mac-key.ts';
import type { Primitives } from './primitives.ts';

export const noblePrimitives: Primitives = {
  name: 'noble',

  publicKey: (privateKey) => x25519.getPublicKey(privateKey),

  dh(privateKey, publicKey) {
    try {
      return x25519.getSharedSecret(privateKey, publicKey);
    } catch {
      return undefined;
    }
  },

  hash(...parts) {
    const state = blake2s.create({});
    for (const part of parts) state.update(part);
    return state.digest();
  },

  mac: (key, data) => blake2s(data, { key, dkLen: MAC_LENGTH }),

  macKey: (key) => macKeyOf(key.slice(), noblePrimitives.mac),

  hmac(key, ...parts) {
    const state = hmac.create(blake2s, key);
    for (const part of parts) state.update(part);
    return state.digest();
  },

  seal: (key, counter, plaintext, associated) =>
    chacha20poly1305(key, nonce(counter), associated).encrypt(plaintext),

  open: (key, counter, sealed, associated) =>
    verified(() => chacha20poly1305(key, nonce(counter), associated).decrypt(sealed)),

  xseal: (key, longNonce, plaintext, associated) =>
    xchacha20poly1305(key, longNonce, associated).encrypt(plaintext),

  xopen: (key, longNonce, sealed, associated) =>
    verified(() => xchacha20poly1305(key, longNonce, associated).decrypt(sealed)),
};

const nonce = (counter: bigint): Uint8Array => {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, counter, true);
  return bytes;
};

const verified = (open: () => Uint8Array): Uint8Array | undefined => {
  try {
    return open();
  } catch {
    return undefined;
  }
};
