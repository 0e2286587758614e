// The key derivation function of WireGuard (whitepaper section 5.4, `KDF_n`): HKDF over HMAC-BLAKE2s with an empty
// info. The same function is Noise's HKDF.

import type { Primitives } from './primitives.ts';
import { wipe } from './wipe.ts';

const ONE = Uint8Array.of(1);
const TWO = Uint8Array.of(2);
const THREE = Uint8Array.of(3);

export const kdf1 = (primitives: Primitives, key: Uint8Array, input: Uint8Array): Uint8Array => {
  const secret = primitives.hmac(key, input);
  const first = primitives.hmac(secret, ONE);
  wipe(secret);
  return first;
};

export const kdf2 = (
  primitives: Primitives,
  key: Uint8Array,
  input: Uint8Array,
): [Uint8Array, Uint8Array] => {
  const secret = primitives.hmac(key, input);
  const first = primitives.hmac(secret, ONE);
  const second = primitives.hmac(secret, first, TWO);
  wipe(secret);
  return [first, second];
};

export const kdf3 = (
  primitives: Primitives,
  key: Uint8Array,
  input: Uint8Array,
): [Uint8Array, Uint8Array, Uint8Array] => {
  const secret = primitives.hmac(key, input);
  const first = primitives.hmac(secret, ONE);
  const second = primitives.hmac(secret, first, TWO);
  const third = primitives.hmac(secret, second, THREE);
  wipe(secret);
  return [first, second, third];
};
