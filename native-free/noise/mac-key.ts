// A mac's key out of a function that makes single macs: for primitives that cannot make a key ready beforehand.

import { MAC_LENGTH } from './constants.ts';
import type { MacKey, Primitives } from './primitives.ts';

/** Keeps `key`. */
export const macKeyOf = (key: Uint8Array, mac: Primitives['mac']): MacKey => ({
  mac: (data) => mac(key, data),
  verify: (bytes, at, length, macAt) =>
    isSame(mac(key, bytes.subarray(at, at + length)), bytes.subarray(macAt, macAt + MAC_LENGTH)),
  wipe: () => {
    key.fill(0);
  },
});

/** Takes the same time wherever the two differ. */
const isSame = (a: Uint8Array, b: Uint8Array): boolean => {
  if (a.length !== MAC_LENGTH || b.length !== MAC_LENGTH) return false;
  let difference = 0;
  for (let i = 0; i < MAC_LENGTH; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
};
