// What a node shows for an SVID to a signer that takes no registry's word: for its first one, that it has the secret of a join
// token, without showing that; for each later one, a signature by the key of the one that it has. Both are over the very
// certificate request, so that nobody on the way can put another in its place.

import { createHash, createHmac, sign, timingSafeEqual, verify } from 'node:crypto';
import { signingInput } from '../../native-free/registry/record.ts';
import { CLIENT_AUTH } from './certificate.ts';
import { type TrustBundle, type VerifiedLeaf, verifyChain } from './chain.ts';
import type { Identity } from './identity.ts';
import { isP256 } from './key.ts';
import { DSA_ENCODING } from './remembered-chains.ts';
import type { SvidProof } from './signer.ts';

const ENROLMENT_CONTEXT = 'vl3 enrolment proof v1';
const RENEWAL_CONTEXT = 'vl3 renewal proof v1';
const KEY_PURPOSE = 'vl3 enrolment proof key v1';

/** What the signer keeps of a token: 32 B. The secret does not follow from it, nor does it from the hash that a registry keeps. */
export const tokenKey = (secret: string): Uint8Array =>
  new Uint8Array(createHmac('sha256', secret).update(KEY_PURPOSE).digest());

export interface EnrolmentClaim {
  /** SHA-256 of the secret, hex. */
  readonly tokenId: string;
  readonly node: string;
  /** DER PKCS #10. */
  readonly request: Uint8Array;
}

export const proveEnrolment = (key: Uint8Array, { tokenId, node, request }: EnrolmentClaim): Uint8Array => {
  const digest = createHash('sha256').update(request).digest('hex');
  // None of the three can hold a line feed.
  const claim = new TextEncoder().encode(`${tokenId}\n${node}\n${digest}`);
  return new Uint8Array(createHmac('sha256', key).update(signingInput(ENROLMENT_CONTEXT, claim)).digest());
};

export const isEnrolmentProven = (key: Uint8Array, claim: EnrolmentClaim, proof: Uint8Array): boolean => {
  const expected = proveEnrolment(key, claim);
  return proof.length === expected.length && timingSafeEqual(proof, expected);
};

/** By the present SVID's key. */
export const proveRenewal = ({ privateKey }: Pick<Identity, 'privateKey'>, request: Uint8Array): Uint8Array =>
  new Uint8Array(
    sign('sha256', signingInput(RENEWAL_CONTEXT, request), { key: privateKey, dsaEncoding: DSA_ENCODING }),
  );

/** The SVID whose key signed the request; undefined unless that holds under the bundle at `now` (unix ms). */
export const verifyRenewal = (
  request: Uint8Array,
  { signature, certificateChain }: SvidProof,
  bundle: TrustBundle,
  now: number,
): VerifiedLeaf | undefined => {
  const result = verifyChain(certificateChain, bundle, now, CLIENT_AUTH);
  if (result.kind !== 'verified' || result.id.kind !== 'node' || !isP256(result.leaf.publicKey))
    return undefined;
  const key = { key: result.leaf.publicKey, dsaEncoding: DSA_ENCODING } as const;
  return verify('sha256', signingInput(RENEWAL_CONTEXT, request), key, signature) ? result : undefined;
};
