// The signature on node records: ECDSA P-256 with SHA-256 by the SVID's key, and its verification against a trust bundle.

import { sign } from 'node:crypto';
import {
  ATTESTATION_CONTEXT,
  type Attestation,
  encodeAttestation,
} from '../../native-free/ca/attestation.ts';
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
import type { TrustBundle } from './chain.ts';
import type { Identity } from './identity.ts';
import { DSA_ENCODING, RememberedChains } from './remembered-chains.ts';

/** What a node has to say; the rest follows from its identity. */
export type RecordContent = Omit<NodeRecord, 'trustDomain' | 'node' | 'notBefore' | 'notAfter'>;

/**
 * Signs a record that holds as long as the SVID does: sign anew after each renewal. Throws Vl3Error('invalid-argument')
 * for content that no peer would accept.
 */
export const signRecord = (identity: Identity, content: RecordContent): SignedRecord =>
  signed(identity, RECORD_CONTEXT, encodeRecord({ ...content, ...heldBy(identity) }));

/** What a node has to say of its attachments; the rest follows from its identity. */
export type AttestationContent = Omit<Attestation, 'trustDomain' | 'node' | 'notAfter'>;

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

/** As signRecord, of what the node has attached. */
export const signAttestation = (identity: Identity, content: AttestationContent): SignedRecord => {
  const { trustDomain, node, notAfter } = heldBy(identity);
  return signed(
    identity,
    ATTESTATION_CONTEXT,
    encodeAttestation({ ...content, trustDomain, node, notAfter }),
  );
};

/** Verifies records of one trust domain. Keep it: it remembers the chains that held. */
export const createRecordVerifier = (bundle: TrustBundle): VerifyRecord => {
  const chains = new RememberedChains(bundle, [CLIENT_AUTH], (id) =>
    id.kind === 'node' ? id.name : undefined,
  );
  return (chain, input, signature, now) => {
    const signer = chains.verify(chain, input, signature, now);
    if (signer === undefined) return undefined;
    const { name: node, notAfter, isLeased } = signer;
    return { trustDomain: bundle.trustDomain, node, notAfter, isLeased };
  };
};
