// Primitives on node:crypto, that is, on OpenSSL: what the agent uses for handshakes (an X25519 takes 60 µs here and
// 3 ms in @noble). Keyed BLAKE2s and XChaCha20, which node:crypto does not offer, stay with @noble; both are cheap.
// Not for transport data: that is the business of src/datapath/aead.

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
} from 'node:crypto';
import { TAG_LENGTH } from '../../native-free/noise/constants.ts';
import { noblePrimitives } from '../../native-free/noise/noble-primitives.ts';
import type { Primitives } from '../../native-free/noise/primitives.ts';

const CIPHER = 'chacha20-poly1305';
const HASH = 'blake2s256';

// RFC 8410: the fixed DER that stands before a raw X25519 key.
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

export const opensslPrimitives: Primitives = {
  name: 'openssl',

  publicKey(privateKey) {
    const spki = createPublicKey(privateKeyObject(privateKey)).export({ format: 'der', type: 'spki' });
    return plain(spki.subarray(SPKI_PREFIX.length));
  },

  dh(privateKey, publicKey) {
    try {
      return x25519(privateKey, publicKey);
    } catch {
      return undefined;
    }
  },

  hash(...parts) {
    const state = createHash(HASH);
    for (const part of parts) state.update(part);
    return plain(state.digest());
  },

  mac: noblePrimitives.mac,

  hmac(key, ...parts) {
    const state = createHmac(HASH, key);
    for (const part of parts) state.update(part);
    return plain(state.digest());
  },

  seal(key, counter, plaintext, associated) {
    const cipher = createCipheriv(CIPHER, key, nonce(counter), { authTagLength: TAG_LENGTH });
    cipher.setAAD(associated, { plaintextLength: plaintext.length });
    const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
    sealed.set(cipher.update(plaintext));
    cipher.final();
    sealed.set(cipher.getAuthTag(), plaintext.length);
    return sealed;
  },

  open(key, counter, sealed, associated) {
    const length = sealed.length - TAG_LENGTH;
    if (length < 0) return undefined;
    const decipher = createDecipheriv(CIPHER, key, nonce(counter), { authTagLength: TAG_LENGTH });
    decipher.setAAD(associated, { plaintextLength: length });
    decipher.setAuthTag(sealed.subarray(length));
    const plaintext = plain(decipher.update(sealed.subarray(0, length)));
    try {
      decipher.final();
      return plaintext;
    } catch {
      plaintext.fill(0);
      return undefined;
    }
  },

  xseal: noblePrimitives.xseal,
  xopen: noblePrimitives.xopen,
};

/** Throws when the result is all zero, as OpenSSL does. */
const x25519 = (privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array =>
  plain(
    diffieHellman({
      privateKey: privateKeyObject(privateKey),
      publicKey: createPublicKey({
        key: Buffer.concat([SPKI_PREFIX, publicKey]),
        format: 'der',
        type: 'spki',
      }),
    }),
  );

const privateKeyObject = (privateKey: Uint8Array): KeyObject => {
  const der = Buffer.concat([PKCS8_PREFIX, privateKey]);
  const object = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  der.fill(0);
  return object;
};

const nonce = (counter: bigint): Uint8Array => {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, counter, true);
  return bytes;
};

/** A Buffer's own bytes, in an array that shares no pool with others. */
const plain = (buffer: Buffer): Uint8Array => new Uint8Array(buffer);
