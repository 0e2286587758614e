// The admin's credential beside a registry whose process holds the CA.

import { Vl3Error } from '../../native-free/error.ts';
import { toBase64 } from '../base64.ts';
import { createAdminCredential } from '../identity/admin-credential.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { readAdminCredential, writeIdentity } from '../identity/identity-file.ts';
import type { AdminSigner } from '../identity/signer.ts';

const ADMIN_NAME = 'admin';

/** Written at the first start, and anew when it names other registries or has less than a third of its life left. */
export const ensureAdminCredential = async (
  file: string,
  signer: AdminSigner,
  registries: readonly string[],
  now: number,
): Promise<void> => {
  try {
    const present = await readAdminCredential(file);
    const fresh = present.notAfter - now > (present.notAfter - present.notBefore) / 3;
    const isOfThese = present.registries.join() === registries.join();
    if (fresh && isOfThese && sameBundle(present.trustBundle, signer.trustBundle)) return;
  } catch (error) {
    if (!(error instanceof Vl3Error && error.code === 'not-found')) throw error;
  }
  await writeIdentity(file, await createAdminCredential(signer, ADMIN_NAME, registries, now));
};

const sameBundle = (a: TrustBundle, b: TrustBundle): boolean =>
  a.certificates.map(toBase64).join() === b.certificates.map(toBase64).join();
