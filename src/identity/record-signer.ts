// The signature on node records: ECDSA P-256 with SHA-256 by the SVID's key, and its verification against a trust
// bundle. Chains that held once are remembered, so that thousands of records cost one signature check each.

import { createHash, type KeyObject, sign, verify } from 'node:crypto';
import { encodeNames, NAMES_CONTEXT, type NodeNames } from '../../native-free/names/signed-names.ts';
import {
  encodeRecord,
  type NodeRecord,
  RECORD_CONTEXT,
  type SignedRecord,
  signingInput,
  type VerifyRecord,
} from '../../native-free/registry/record.ts';
import { CLIENT_AUTH } from './certificate.ts';
import { type TrustBundle, verifyChain } from './chain.ts';
import type { Identity } from './identity.ts';
import { isP256 } from './key.ts';

const DSA_ENCODING = 'ieee-p1363';
/** More than the nodes of one domain that vl3 is made for; past it the oldest is forgotten. */
const MAX_REMEMBERED = 8192;

/** What a node has to say; the rest follows from its identity. */
export type RecordContent = Omit<NodeRecord, 'trustDomain' | 'node' | 'notBefore' | 'notAfter'>;

/**
 * Signs a record that holds as long as the SVID does: sign anew after each renewal. Throws Vl3Error('invalid-argument')
 * for content that no peer would accept.
 */
export const signRecord = (identity: Identity, content: RecordContent): SignedRecord =>
  signed(identity, RECORD_CONTEXT, encodeRecord({ ...content, ...heldBy(identity) }));

/** What a node has to say of its names; the rest follows from its identity. */
export type NamesContent = Omit<NodeNames, 'trustDomain' | 'node' | 'notBefore' | 'notAfter'>;

/** As signRecord. */
export const signNames = (identity: Identity, content: NamesContent): SignedRecord => {
  const record = encodeNames({ ...content, ...heldBy(identity) });
  return signed(identity, NAMES_CONTEXT, record);
};

/** Not the time of signing: then nodes' clocks would have to agree with each other, not just with the registry's. */
const heldBy = ({ trustBundle, name, notBefore, notAfter }: Identity) => ({
  trustDomain: trustBundle.trustDomain,
  node: name,
  notBefore,
  notAfter,
});

const signed = (identity: Identity, context: string, record: Uint8Array): SignedRecord => {
  const key = { key: identity.privateKey, dsaEncoding: DSA_ENCODING } as const;
  return {
    record,
    signature: new Uint8Array(sign('sha256', signingInput(context, record), key)),
    certificateChain: identity.certificateChain,
  };
};

interface Remembered {
  readonly node: string;
  readonly key: KeyObject;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** Verifies records of one trust domain. Keep it: it remembers the chains that held. */
export const createRecordVerifier = (bundle: TrustBundle): VerifyRecord => {
  const remembered = new Map<string, Remembered>();

  const signerOf = (chain: readonly Uint8Array[], now: number): Remembered | undefined => {
    const id = chainDigest(chain);
    const known = remembered.get(id);
    if (known !== undefined) return known.notBefore <= now && now <= known.notAfter ? known : undefined;
    const result = verifyChain(chain, bundle, now, CLIENT_AUTH);
    if (result.kind !== 'verified' || result.id.kind !== 'node') return undefined;
    const key = result.leaf.publicKey;
    if (!isP256(key)) return undefined;
    const signer = { node: result.id.name, key, notBefore: result.notBefore, notAfter: result.notAfter };
    const [oldest] = remembered.keys();
    if (remembered.size >= MAX_REMEMBERED && oldest !== undefined) remembered.delete(oldest);
    remembered.set(id, signer);
    return signer;
  };

  return (chain, input, signature, now) => {
    const signer = signerOf(chain, now);
    if (signer === undefined) return undefined;
    if (!verify('sha256', input, { key: signer.key, dsaEncoding: DSA_ENCODING }, signature)) return undefined;
    return { trustDomain: bundle.trustDomain, node: signer.node, notAfter: signer.notAfter };
  };
};

/** With the length of each: the same bytes cut elsewhere are another chain, which would not verify. */
const chainDigest = (chain: readonly Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const one of chain) hash.update(`${one.length}:`).update(one);
  return hash.digest('base64');
};
