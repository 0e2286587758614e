// What a device is told of a peer, and which keys it takes.

import { Vl3Error } from '../error.ts';
import type { Prefix } from '../ipam/prefix.ts';
import { KEY_LENGTH } from '../noise/constants.ts';
import type { Endpoint } from './data-plane.ts';

export interface PeerConfig {
  /** 32 B. */
  readonly publicKey: Uint8Array;
  /** 32 B. */
  readonly presharedKey?: Uint8Array | undefined;
  readonly allowedIps: readonly Prefix[];
  /** As announced, best first. */
  readonly endpoints: readonly Endpoint[];
  /** Learned in an earlier life; taken only when the peer is new to this device. */
  readonly learnedEndpoint?: Endpoint | undefined;
  /** Milliseconds; 0 or undefined: off. */
  readonly persistentKeepalive?: number | undefined;
}

/** A copy of it; undefined for none, which is what all zeros mean. */
export const presharedKeyOf = ({ presharedKey }: PeerConfig): Uint8Array | undefined => {
  if (presharedKey === undefined) return undefined;
  checkKey(presharedKey, 'a preshared key');
  return presharedKey.every((byte) => byte === 0) ? undefined : presharedKey.slice();
};

/** The key itself. Throws when it is malformed, calling it `what`. */
export const checkKey = (key: Uint8Array, what: string): Uint8Array => {
  if (key.length === KEY_LENGTH) return key;
  throw new Vl3Error('invalid-argument', `${what} has ${KEY_LENGTH} bytes, not ${key.length}`);
};
