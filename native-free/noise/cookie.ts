// The macs that end an initiation and a response (whitepaper section 5.4.4). mac1 shows that the sender knows whom it
// calls; mac2 is zero until cookies arrive, which are made and used in this room too (sections 5.3 and 5.4.7).

import type { Macs } from '../wire/message.ts';
import { LABEL_MAC1 } from './constants.ts';
import type { Primitives } from './primitives.ts';

/** The key of every mac1 sent to the holder of `publicKey`. */
export const mac1Key = (primitives: Primitives, publicKey: Uint8Array): Uint8Array =>
  primitives.hash(LABEL_MAC1, publicKey);

/** Writes mac1; mac2 stays zero. */
export const writeMacs = (primitives: Primitives, key: Uint8Array, macs: Macs): void => {
  macs.mac1.set(primitives.mac(key, macs.beforeMac1));
};

export const verifyMac1 = (primitives: Primitives, key: Uint8Array, macs: Macs): boolean =>
  equalBytes(primitives.mac(key, macs.beforeMac1), macs.mac1);

/** Takes the same time wherever the two differ. */
const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
};
