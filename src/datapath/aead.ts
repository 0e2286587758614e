// ChaCha20-Poly1305 (RFC 8439) as WireGuard's transport data uses it: no associated data, nonce = 32 zero bits and the
// counter in 64 bits LE. Four tiers, fastest first; each proves itself at start or is passed over. Works on offsets
// in one arena and moves data from one place to another, so that cutting and sealing is one pass.

import { loadIpsecMb } from '../ffi/ipsec-mb.ts';
import type { Arena } from '../ffi/memory.ts';
import { loadEvp, loadLowLevel } from '../ffi/openssl.ts';
import { EvpAead } from './aead-evp.ts';
import { IpsecMbAead } from './aead-ipsec-mb.ts';
import { LowLevelAead } from './aead-low-level.ts';
import { NobleAead } from './aead-noble.ts';
import { passesSelfTest } from './aead-self-test.ts';

export const TAG_LENGTH = 16;
/** Bytes before `from` and before `to` that an AEAD overwrites. */
export const HEADROOM = 64;
/** Bytes after the ciphertext and its tag that must be there; `open` restores them, `seal` overwrites them. */
export const TAILROOM = 16;

export type AeadTier = 'ipsec-mb' | 'openssl-low-level' | 'openssl-evp' | 'noble';

export const AEAD_TIERS: readonly AeadTier[] = ['ipsec-mb', 'openssl-low-level', 'openssl-evp', 'noble'];

export const FASTEST: AeadTier = 'ipsec-mb';

/** `from` and `to` are either equal or at least HEADROOM + length + TAG_LENGTH + TAILROOM apart. */
export interface Aead {
  readonly tier: AeadTier;
  /** Seals `length` bytes at `from` into ciphertext and tag at `to`. `key` is the offset of 32 bytes. */
  seal(key: number, counter: number, from: number, length: number, to: number): void;
  /**
   * Opens `length` bytes of ciphertext at `from`, the tag after them, to plaintext at `to` (never equal to `from`).
   * False: the tag does not verify, and what is at `to` must not be looked at.
   */
  open(key: number, counter: number, from: number, length: number, to: number): boolean;
}

/** The tier by that name, or undefined when this machine does not have it or it fails its self-test. */
export const createTier = (tier: AeadTier, arena: Arena): Aead | undefined => {
  try {
    const aead = build(tier, arena);
    return aead !== undefined && passesSelfTest(aead, arena) ? aead : undefined;
  } catch (error) {
    // A library that is not what it says it is. What this process lacks is no reason to take a slower tier.
    if (error instanceof RangeError) throw error;
    return undefined;
  }
};

/** The fastest tier that works; not faster than `best`. */
export const createAead = (arena: Arena, best: AeadTier = FASTEST): Aead => {
  for (const tier of AEAD_TIERS.slice(AEAD_TIERS.indexOf(best))) {
    const aead = createTier(tier, arena);
    if (aead !== undefined) return aead;
  }
  throw new Error('no ChaCha20-Poly1305 passes its self-test on this machine');
};

const build = (tier: AeadTier, arena: Arena): Aead | undefined => {
  if (tier === 'noble') return new NobleAead(arena);
  if (tier === 'openssl-evp') {
    const evp = loadEvp();
    return evp === undefined ? undefined : EvpAead.create(arena, evp);
  }
  if (tier === 'ipsec-mb') {
    const library = loadIpsecMb();
    return library === undefined ? undefined : IpsecMbAead.create(arena, library);
  }
  const lowLevel = loadLowLevel();
  return lowLevel === undefined ? undefined : LowLevelAead.create(arena, lowLevel);
};
