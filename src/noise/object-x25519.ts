// X25519 by node:crypto's public interface: each key has to be wrapped in DER and parsed, which takes three times what the
// multiplication does. Where openssl's own function is not to be had, and to check it against.

import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';
import type { X25519 } from './bare-x25519.ts';

// RFC 8410: the fixed DER that stands before a raw X25519 key.
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

export const objectX25519: X25519 = {
  publicKey(privateKey) {
    const spki = createPublicKey(privateKeyObject(privateKey)).export({ format: 'der', type: 'spki' });
    return new Uint8Array(spki.subarray(SPKI_PREFIX.length));
  },

  dh(privateKey, publicKey) {
    try {
      return new Uint8Array(
        diffieHellman({
          privateKey: privateKeyObject(privateKey),
          publicKey: createPublicKey({
            key: Buffer.concat([SPKI_PREFIX, publicKey]),
            format: 'der',
            type: 'spki',
          }),
        }),
      );
    } catch {
      // So OpenSSL says that the result is all zero.
      return undefined;
    }
  },
};

const privateKeyObject = (privateKey: Uint8Array): KeyObject => {
  const der = Buffer.concat([PKCS8_PREFIX, privateKey]);
  const object = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  der.fill(0);
  return object;
};
