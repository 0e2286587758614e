// Identities on disk: one JSON file (0600) that holds key, chain, CAs and registries, replaced as one, so that a crash
// in a renewal leaves a whole identity, the old or the new. An admin's file, admin.json, is the same thing.

import { join } from 'node:path';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { isName, isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { adminReference, followAdminReference } from './admin-reference.ts';
import { parseCertificate } from './certificate.ts';
import { createIdentity, type Identity } from './identity.ts';
import { formatKey, parseKey } from './key.ts';
import { fromPem, toPem } from './pem.ts';
import { makePrivateDirectory, readPrivateFile, writePrivateFile } from './private-file.ts';
import { parseRegistryAddress } from './registry-address.ts';

const schema = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['node', 'admin', 'operator']),
  name: z.string().refine(isName),
  trustDomain: z.string().refine(isTrustDomain),
  registries: z.array(z.string().max(300)).min(1).max(16),
  /** Of a signer apart. */
  signers: z.array(z.string().max(300)).min(1).max(16).optional(),
  /** PEM: the domain's CAs, the certificate chain (leaf first), the key. */
  certificateAuthorities: z.string().max(65_536),
  certificateChain: z.string().max(65_536),
  privateKey: z.string().max(4096),
});

const NODE_FILE = 'identity.json';

/** The node's identity in an agent's state directory; undefined before it has enrolled. */
export const loadNodeIdentity = async (directory: string): Promise<Identity | undefined> =>
  await readIdentity(join(directory, NODE_FILE), 'node');

/** Replaces the identity in one step. */
export const storeNodeIdentity = async (directory: string, identity: Identity): Promise<void> => {
  await makePrivateDirectory(directory);
  await writeIdentity(join(directory, NODE_FILE), identity);
};

/**
 * Reads what the registry wrote at its first start, or an operator was given. Throws Vl3Error('not-found') when there is no
 * such file.
 */
export const readAdminCredential = async (path: string): Promise<Identity> => {
  const reference = await readAdminReference(path);
  const identity =
    reference === undefined
      ? await readIdentity(path, 'admin', 'operator')
      : await followAdminReference(reference);
  if (identity !== undefined) return identity;
  throw new Vl3Error(
    'not-found',
    `there is no admin credential at ${path}: name the admin.json of the registry's state directory with --admin or VL3_ADMIN`,
  );
};

/** Undefined when there is no such file, or it holds the credential itself. */
const readAdminReference = async (path: string) => {
  const bytes = await readPrivateFile(path, describe('admin'));
  if (bytes === undefined) return undefined;
  const parsed = parseJson(bytes, adminReference);
  return parsed.success ? parsed.data : undefined;
};

export const writeIdentity = async (path: string, identity: Identity): Promise<void> => {
  const content: z.infer<typeof schema> = {
    version: 1,
    kind: identity.kind,
    name: identity.name,
    trustDomain: identity.trustBundle.trustDomain,
    registries: [...identity.registries],
    ...(identity.signers !== undefined && { signers: [...identity.signers] }),
    certificateAuthorities: toPem(identity.trustBundle.certificates),
    certificateChain: toPem(identity.certificateChain),
    privateKey: formatKey(identity.privateKey),
  };
  const bytes = Buffer.from(`${JSON.stringify(content, null, 2)}\n`);
  await writePrivateFile(path, bytes, describe(identity.kind));
};

/** An expired identity is read all the same: the caller can tell by notAfter, and say so. */
const readIdentity = async (
  path: string,
  ...kinds: readonly [Identity['kind'], ...Identity['kind'][]]
): Promise<Identity | undefined> => {
  const what = describe(kinds[0]);
  const bytes = await readPrivateFile(path, what);
  if (bytes === undefined) return undefined;
  const parsed = parseJson(bytes, schema);
  if (!parsed.success) {
    throw new Vl3Error(
      'failed-precondition',
      `${what} ${path} is damaged: restore it, or remove it and make a new one`,
    );
  }
  const content = parsed.data;
  const { kind } = content;
  if (!kinds.includes(kind)) {
    throw new Vl3Error('failed-precondition', `${path} is ${describe(kind)}, not ${what}`);
  }
  try {
    for (const address of [...content.registries, ...(content.signers ?? [])]) parseRegistryAddress(address);
    const certificateChain = fromPem(content.certificateChain, path);
    const [leaf] = certificateChain;
    return createIdentity(
      {
        kind,
        name: content.name,
        registries: content.registries,
        ...(content.signers !== undefined && { signers: content.signers }),
        certificateChain,
        privateKey: parseKey(content.privateKey, path),
        trustBundle: {
          trustDomain: content.trustDomain,
          certificates: fromPem(content.certificateAuthorities, path),
        },
      },
      leaf === undefined ? 0 : parseCertificate(leaf).notBefore,
    );
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('failed-precondition', `${what} ${path} does not hold: ${why}`, { cause });
  }
};

const parseJson = <T>(bytes: Uint8Array, form: z.ZodType<T>) => {
  try {
    return form.safeParse(JSON.parse(Buffer.from(bytes).toString()));
  } catch {
    return { success: false } as const;
  }
};

const DESCRIPTIONS = {
  node: "the node's identity",
  admin: 'the admin credential',
  operator: "an operator's credential",
};
const describe = (kind: Identity['kind']): string => DESCRIPTIONS[kind];
