// An admin whose SVID somebody else issues: admin.json then says where that is, and holds no key.

import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { isName, isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { createIdentity, type Identity } from './identity.ts';
import {
  formatIdentityPlace,
  type IdentityPlace,
  openIdentitySource,
  parseIdentityPlace,
} from './identity-place.ts';
import { writePrivateFile } from './private-file.ts';
import { parseRegistryAddress } from './registry-address.ts';

export const adminReference = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['admin', 'operator']),
  /** Of several that are offered. */
  name: z.string().refine(isName).optional(),
  trustDomain: z.string().refine(isTrustDomain),
  registries: z.array(z.string().max(300)).min(1).max(16),
  /** "unix:///run/spire/agent.sock", or a directory of files. */
  identity: z.string().max(4096),
});
type AdminReference = z.infer<typeof adminReference>;

/** A person waits. */
const PATIENCE_MS = 5000;

/** The identity that is there now. Throws Vl3Error with what is wrong with it. */
export const followAdminReference = async (reference: AdminReference): Promise<Identity> => {
  const { kind, name, trustDomain, registries } = reference;
  for (const address of registries) parseRegistryAddress(address);
  const { pino } = await import('pino');
  await using source = openIdentitySource(
    parseIdentityPlace(reference.identity),
    { kind, name, trustDomain },
    // Why it does not come is thrown.
    { logger: pino({ level: 'silent' }), now: Date.now, monotonic: () => performance.now() },
  );
  const { id, privateKey, certificateChain, trustBundle } = await source.first(
    AbortSignal.timeout(PATIENCE_MS),
  );
  if (!('name' in id)) throw new Vl3Error('internal', 'an admin without a name');
  return createIdentity(
    { kind, name: id.name, registries, privateKey, certificateChain, trustBundle },
    Date.now(),
  );
};

export const writeAdminReference = async (
  path: string,
  {
    trustDomain,
    registries,
    place,
  }: Pick<Identity, 'registries'> & { trustDomain: string; place: IdentityPlace },
): Promise<void> => {
  const content: AdminReference = {
    version: 1,
    kind: 'admin',
    trustDomain,
    registries: [...registries],
    identity: formatIdentityPlace(place),
  };
  await writePrivateFile(path, Buffer.from(`${JSON.stringify(content, null, 2)}\n`), 'the admin credential');
};
