// Certificate requests (PKCS #10, RFC 2986): a key that asks for a certificate and proves possession by signing the
// request. Subject, names and attributes are empty when made and ignored when read: the signer decides them.

import { createPublicKey, type KeyObject } from 'node:crypto';
import { Vl3Error } from '../../native-free/error.ts';
import { ECDSA, isP256, webKeys } from './key.ts';
import { loadX509 } from './x509-library.ts';

export const MAX_REQUEST_BYTES = 4096;

/** DER. */
export const createCertificateRequest = async (key: KeyObject): Promise<Uint8Array> => {
  const { Pkcs10CertificateRequestGenerator } = await loadX509();
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys: await webKeys(key),
    signingAlgorithm: ECDSA,
  });
  return new Uint8Array(request.rawData);
};

/** The request's public key, proven to be the requester's. Throws Vl3Error('invalid-argument'). */
export const readCertificateRequest = async (der: Uint8Array): Promise<KeyObject> => {
  if (der.length > MAX_REQUEST_BYTES) {
    throw new Vl3Error(
      'invalid-argument',
      `the certificate request is larger than ${MAX_REQUEST_BYTES} bytes`,
    );
  }
  try {
    const { Pkcs10CertificateRequest } = await loadX509();
    const request = new Pkcs10CertificateRequest(der.slice().buffer);
    const key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' });
    if (!isP256(key)) throw new Error('not a P-256 key');
    if (!(await request.verify())) throw new Error('not signed by its own key');
    return key;
  } catch (cause) {
    throw new Vl3Error(
      'invalid-argument',
      'this is not a certificate request (PKCS #10 in DER) for a P-256 key, signed by that key',
      { cause },
    );
  }
};
