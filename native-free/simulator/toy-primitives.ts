// TOY CRYPTOGRAPHY: NO SECRECY AND NO SECURITY WHATSOEVER. For simulations of so many nodes that real cryptography would
// take all the time. It keeps what the protocol's logic rests on: both ends of a DH agree, other keys give other
// results, and a changed byte, key or counter is noticed. Anyone who sees a public key knows the private one.

import { KEY_LENGTH, MAC_LENGTH, TAG_LENGTH } from '../noise/constants.ts';
import { macKeyOf } from '../noise/mac-key.ts';
import type { Primitives } from '../noise/primitives.ts';

const LANES = [0x9e3779b9, 0x7f4a7c15, 0xf39cc060, 0x5cedc834];
const MASK = 0x5a;

/** `length` bytes that depend on every byte of the parts and on where each part ends. */
const digest = (length: number, ...parts: Uint8Array[]): Uint8Array => {
  let [a = 0, b = 0, c = 0, d = 0] = LANES;
  for (const part of parts) {
    for (let i = 0; i < part.length; i++) {
      const byte = part[i] ?? 0;
      a = Math.imul(a ^ byte, 0x01000193) ^ (d >>> 11);
      b = (Math.imul(b, 0x85ebca6b) + byte) ^ (a >>> 13);
      c = Math.imul(c ^ a, 0xc2b2ae35) ^ b;
      d = (Math.imul(d, 0x27d4eb2f) + c) | 0;
    }
    d = Math.imul(d ^ part.length, 0x165667b1);
  }
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    a = Math.imul(a ^ d ^ i, 0x85ebca6b);
    b = Math.imul(b ^ (a >>> 15), 0xc2b2ae35);
    c = (c + b) | 0;
    d = Math.imul(d ^ (c >>> 13), 0x27d4eb2f);
    out[i] = (a ^ b ^ c ^ d) >>> 24;
  }
  return out;
};

const counterBytes = (counter: bigint): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, counter, true);
  return bytes;
};

const seal = (key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array) => {
  const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
  sealed.set(plaintext);
  sealed.set(digest(TAG_LENGTH, key, nonce, associated, plaintext), plaintext.length);
  return sealed;
};

const open = (key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, associated: Uint8Array) => {
  if (sealed.length < TAG_LENGTH) return undefined;
  const plaintext = sealed.slice(0, sealed.length - TAG_LENGTH);
  const tag = digest(TAG_LENGTH, key, nonce, associated, plaintext);
  return tag.every((byte, i) => byte === sealed[plaintext.length + i]) ? plaintext : undefined;
};

export const toyPrimitives: Primitives = {
  name: 'TOY',
  publicKey: (privateKey) => privateKey.map((byte) => byte ^ MASK),
  dh(privateKey, publicKey) {
    if (publicKey.every((byte) => byte === 0)) return undefined;
    // Symmetric in the two private keys.
    return digest(
      KEY_LENGTH,
      privateKey.map((byte, i) => byte ^ (publicKey[i] ?? 0) ^ MASK),
    );
  },
  hash: (...parts) => {
    // Parts are concatenated by contract: where one ends must not matter.
    const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return digest(KEY_LENGTH, all);
  },
  mac: (key, data) => digest(MAC_LENGTH, key, data),
  macKey: (key) => macKeyOf(key.slice(), toyPrimitives.mac),
  hmac: (key, ...parts) => digest(KEY_LENGTH, key, toyPrimitives.hash(...parts)),
  seal: (key, counter, plaintext, associated) => seal(key, counterBytes(counter), plaintext, associated),
  open: (key, counter, sealed, associated) => open(key, counterBytes(counter), sealed, associated),
  xseal: seal,
  xopen: open,
};
