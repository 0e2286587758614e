// Making an admin's credential: a client certificate of the domain, with the CAs and the registries' addresses beside
// it, so that one file is all the CLI needs. The file's form is identity-file.ts's.

import { createCertificateRequest } from './certificate-request.ts';
import { createIdentity, type Identity } from './identity.ts';
import { generateKey } from './key.ts';
import type { AdminSigner } from './signer.ts';

/** `registries`: "host:port" each. Not stored; see writeIdentity. */
export const createAdminCredential = async (
  signer: AdminSigner,
  name: string,
  registries: readonly string[],
  now = Date.now(),
): Promise<Identity> => {
  const privateKey = await generateKey();
  const request = await createCertificateRequest(privateKey);
  const certificateChain = await signer.signAdminCredential(request, name);
  const { trustBundle } = signer;
  return createIdentity({ kind: 'admin', name, registries, trustBundle, privateKey, certificateChain }, now);
};

/** As createAdminCredential, for somebody who looks and changes nothing. */
export const createOperatorCredential = async (
  signer: AdminSigner,
  name: string,
  registries: readonly string[],
  validityMs: number,
  now = Date.now(),
): Promise<Identity> => {
  const privateKey = await generateKey();
  const request = await createCertificateRequest(privateKey);
  const certificateChain = await signer.signOperatorCredential(request, name, validityMs);
  const { trustBundle } = signer;
  return createIdentity(
    { kind: 'operator', name, registries, trustBundle, privateKey, certificateChain },
    now,
  );
};
