// What a node says of its attachments on one network, signed by its SVID: a signer apart decides by it which of them are admitted,
// so that no registry can put words into a node's mouth. One canonical form, as records have (registry/record.ts).

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { address, check, labels, MAX_ATTACHMENTS, name } from '../registry/model.ts';
import {
  isOversized,
  isSignedFor,
  MAX_SEQUENCE_AHEAD_MS,
  type NamedNetwork,
  type SignedRecord,
  signedNetwork,
  signingInput,
  type VerifyRecord,
  writtenHome,
} from '../registry/record.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';

export const ATTESTATION_CONTEXT = 'vl3 attachment attestation v1';
/** As a message that carries it may be. */
const MAX_ATTESTATION_BYTES = 3 * 1024 * 1024;

const time = z.number().int().min(0).max(8_640_000_000_000_000);

const attachment = z.strictObject({
  workload: z.string().max(253),
  namespace: z.string().max(253),
  serviceAccount: z.string().max(253),
  labels,
  addresses: z.array(address).max(8),
});

const schema = z.strictObject({
  trustDomain: z.string().refine(isTrustDomain, 'is not a trust domain'),
  network: name,
  networkUid: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  /** Whose the network is, where it is not of the node's own domain. */
  home: z.string().refine(isTrustDomain, 'is not a trust domain').optional(),
  node: name,
  attachments: z.array(attachment).max(MAX_ATTACHMENTS),
  /** Grows with each of this node and network; of two the higher one holds. */
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  notAfter: time,
});
export type Attestation = z.infer<typeof schema>;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const canonical = (one: Attestation): string =>
  JSON.stringify({
    trustDomain: one.trustDomain,
    network: one.network,
    networkUid: one.networkUid,
    ...writtenHome(one),
    node: one.node,
    attachments: one.attachments.map(({ workload, namespace, serviceAccount, labels, addresses }) => ({
      workload,
      namespace,
      serviceAccount,
      labels: Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))),
      addresses,
    })),
    sequence: one.sequence,
    notAfter: one.notAfter,
  });

/** The one canonical form. Throws Vl3Error('invalid-argument'). */
export const encodeAttestation = (attestation: Attestation): Uint8Array => {
  const bytes = encoder.encode(canonical(check(schema, attestation, 'attestation')));
  if (bytes.length > MAX_ATTESTATION_BYTES)
    throw new Vl3Error('invalid-argument', `attestation: it is longer than ${MAX_ATTESTATION_BYTES} bytes`);
  return bytes;
};

const read = (bytes: Uint8Array): Attestation | undefined => {
  try {
    const text = decoder.decode(bytes);
    const attestation = schema.parse(JSON.parse(text));
    return canonical(attestation) === text ? attestation : undefined;
  } catch {
    return undefined;
  }
};

/** Throws Vl3Error('permission-denied') unless signature, node, network and validity at `now` (unix ms) hold. */
export const decodeAttestation = (
  signed: SignedRecord,
  verify: VerifyRecord,
  now: number,
  expected: NamedNetwork & { readonly node: string },
): Attestation => {
  const { record: bytes, signature, certificateChain } = signed;
  if (isOversized(signed, MAX_ATTESTATION_BYTES)) throw refuse('it, its signature or its chain is too large');
  const signer = verify(certificateChain, signingInput(ATTESTATION_CONTEXT, bytes), signature, now);
  if (signer === undefined) throw refuse('its signature does not verify at this time');
  const attestation = read(bytes);
  if (attestation === undefined) throw refuse('what was signed is none');
  const { node, trustDomain, sequence, notAfter } = attestation;
  if (node !== signer.node || trustDomain !== signer.trustDomain || node !== expected.node)
    throw refuse(`node "${signer.node}" signed it for "${node}"`);
  if (!isSignedFor(attestation, expected)) throw refuse(`it is of ${signedNetwork(attestation)}`);
  if (sequence > now + MAX_SEQUENCE_AHEAD_MS) throw refuse('its sequence is of a time far ahead');
  if (now >= notAfter || notAfter > signer.notAfter)
    throw refuse('it has expired, or would outlive its SVID');
  return attestation;
};

const refuse = (why: string): Vl3Error =>
  new Vl3Error('permission-denied', `what the node says of its attachments is not taken: ${why}`);
