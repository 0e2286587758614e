// What follows from an invitation's secret: what a registry keeps of it, by what two registries know each other again, and
// what a signer apart checks proofs with. None of the three gives another away. A proof is over the CAs of whoever accepts,
// so that nobody on the way, the accepting registry included, can put others in their place.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { signingInput } from '../../native-free/registry/record.ts';

const PROOF_CONTEXT = 'vl3 federation proof v1';

const hashed = (label: string, secret: Uint8Array): string =>
  createHash('sha256').update(`${label}\0`).update(secret).digest('hex');

/** What the registry that invites keeps of the secret: hex. */
export const secretHashOf = (secret: Uint8Array): string => hashed('vl3 federation secret v1', secret);
/** What both registries make of it, to know each other again: hex. */
export const handleOf = (secret: Uint8Array): string => hashed('vl3 federation handle v1', secret);
/** What a signer apart keeps of it: 32 B. */
export const invitationKey = (secret: Uint8Array): Uint8Array =>
  new Uint8Array(createHmac('sha256', secret).update('vl3 federation proof key v1').digest());

export interface AcceptanceClaim {
  /** Who invites, and who accepts. */
  readonly home: string;
  readonly trustDomain: string;
  /** SHA-256 of the accepting domain's CAs, hex, in any order. */
  readonly caFingerprints: readonly string[];
}

export const proveAcceptance = (
  key: Uint8Array,
  { home, trustDomain, caFingerprints }: AcceptanceClaim,
): Uint8Array => {
  // None of them can hold a line feed.
  const claim = [home, trustDomain, ...[...caFingerprints].sort()].join('\n');
  const input = signingInput(PROOF_CONTEXT, new TextEncoder().encode(claim));
  return new Uint8Array(createHmac('sha256', key).update(input).digest());
};

export const isAcceptanceProven = (key: Uint8Array, claim: AcceptanceClaim, proof: Uint8Array): boolean => {
  const expected = proveAcceptance(key, claim);
  return proof.length === expected.length && timingSafeEqual(proof, expected);
};
