// SVIDs as the registry gives them out: signed by the CA, noted by serial so that they can be refused later.

import { createHash } from 'node:crypto';
import { Vl3Error } from '../../native-free/error.ts';
import type { Certificate } from '../../native-free/registry/model.ts';
import { parseCertificate } from '../identity/certificate.ts';
import { readCertificateRequest } from '../identity/certificate-request.ts';
import type { Signer, SvidEvidence } from '../identity/signer.ts';

/** SHA-256 (hex) of the key that a request proves possession of. Throws Vl3Error('invalid-argument'). */
export const requestKeyHash = async (request: Uint8Array): Promise<string> => {
  const key = await readCertificateRequest(request);
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
};

export interface IssuedSvid {
  /** DER, the leaf first. */
  readonly chain: Uint8Array[];
  readonly certificate: Certificate;
  readonly notBefore: number;
}

export const issueSvid = async (
  signer: Signer,
  request: Uint8Array,
  node: string,
  evidence: SvidEvidence,
): Promise<IssuedSvid> => {
  const chain = await signer.signNodeSvid(request, node, evidence);
  const [leaf] = chain;
  if (leaf === undefined) throw new Vl3Error('internal', 'the signer answered no certificate');
  const { serial, notBefore, notAfter } = parseCertificate(leaf);
  return { chain, certificate: { serial, notAfter }, notBefore };
};
