// X25519 as the bare function inside OpenSSL: raw bytes in and out, no key objects. It is an internal of the node binary, so it
// is used only when it is there and agrees with the public interface on a pair of keys, a low-order one among them.

import { loadX25519 } from '../ffi/openssl.ts';

export interface X25519 {
  publicKey(privateKey: Uint8Array): Uint8Array;
  /** Undefined when the result is all zero. */
  dh(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
}

const KEY_LENGTH = 32;

/** Undefined where it can't be had or is not to be trusted. */
export const bareX25519 = (known: X25519): X25519 | undefined => {
  const functions = loadX25519();
  if (functions === undefined) return undefined;
  const bare: X25519 = {
    publicKey(privateKey) {
      const publicKey = new Uint8Array(KEY_LENGTH);
      functions.publicFromPrivate(publicKey, key(privateKey));
      return publicKey;
    },
    dh(privateKey, publicKey) {
      const secret = new Uint8Array(KEY_LENGTH);
      return functions.x25519(secret, key(privateKey), key(publicKey)) === 1 ? secret : undefined;
    },
  };
  return agrees(bare, known) ? bare : undefined;
};

/** C reads 32 bytes, however many there are. */
const key = (bytes: Uint8Array): Uint8Array => {
  if (bytes.length !== KEY_LENGTH) throw new RangeError(`an X25519 key has 32 B, not ${bytes.length}`);
  return bytes;
};

const agrees = (bare: X25519, known: X25519): boolean => {
  const one = Uint8Array.from({ length: KEY_LENGTH }, (_, i) => i * 7 + 3);
  const other = known.publicKey(Uint8Array.from({ length: KEY_LENGTH }, (_, i) => i * 11 + 5));
  const lowOrder = new Uint8Array(KEY_LENGTH);
  return (
    isSame(bare.publicKey(one), known.publicKey(one)) &&
    isSame(bare.dh(one, other), known.dh(one, other)) &&
    bare.dh(one, lowOrder) === undefined
  );
};

const isSame = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
  a !== undefined && a.length === b?.length && a.every((byte, i) => byte === b[i]);
