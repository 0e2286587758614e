// Who signed something, by a certificate chain that comes with it: verified against one trust bundle. Chains that held once
// are remembered, so that thousands of documents cost one signature check each.

import { createHash, type KeyObject, verify } from 'node:crypto';
import type { SpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { type TrustBundle, verifyChain } from './chain.ts';
import { isP256 } from './key.ts';

export const DSA_ENCODING = 'ieee-p1363';
/** More than the nodes of one domain that vl3 is made for; past it the oldest is forgotten. */
const MAX_REMEMBERED = 8192;

interface Remembered {
  readonly name: string;
  readonly key: KeyObject;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly isLeased: boolean;
}

export class RememberedChains {
  readonly #bundle: TrustBundle;
  readonly #usages: readonly string[];
  readonly #nameOf: (id: SpiffeId) => string | undefined;
  readonly #remembered = new Map<string, Remembered>();

  /**
   * `usages`: the extended key usages that leaves may have; `nameOf`: what to call a signer, undefined when it may not sign
   * this.
   */
  constructor(bundle: TrustBundle, usages: readonly string[], nameOf: (id: SpiffeId) => string | undefined) {
    this.#bundle = bundle;
    this.#usages = usages;
    this.#nameOf = nameOf;
  }

  /** Undefined unless the chain is good at `now` (unix ms) and the signature is by the key of its leaf. */
  verify(
    chain: readonly Uint8Array[],
    input: Uint8Array,
    signature: Uint8Array,
    now: number,
  ): Pick<Remembered, 'name' | 'notAfter' | 'isLeased'> | undefined {
    const signer = this.#signerOf(chain, now);
    if (signer === undefined) return undefined;
    const key = { key: signer.key, dsaEncoding: DSA_ENCODING } as const;
    return verify('sha256', input, key, signature) ? signer : undefined;
  }

  #signerOf(chain: readonly Uint8Array[], now: number): Remembered | undefined {
    const digest = chainDigest(chain);
    const known = this.#remembered.get(digest);
    if (known !== undefined) return known.notBefore <= now && now <= known.notAfter ? known : undefined;
    const results = this.#usages.map((usage) => verifyChain(chain, this.#bundle, now, usage));
    const result = results.find(({ kind }) => kind === 'verified');
    if (result?.kind !== 'verified') return undefined;
    const name = this.#nameOf(result.id);
    const key = result.leaf.publicKey;
    if (name === undefined || !isP256(key)) return undefined;
    const { notBefore, notAfter, leaf } = result;
    const signer = { name, key, notBefore, notAfter, isLeased: leaf.isLeased };
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size >= MAX_REMEMBERED && oldest !== undefined) this.#remembered.delete(oldest);
    this.#remembered.set(digest, signer);
    return signer;
  }
}

/** With the length of each: the same bytes cut elsewhere are another chain, which would not verify. */
const chainDigest = (chain: readonly Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const one of chain) hash.update(`${one.length}:`).update(one);
  return hash.digest('base64');
};
