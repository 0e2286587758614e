// What a registry holds of its domain when the signer is apart: a certificate that opens the connection to that and is shown
// to nodes, the bundle, and what it needs so that it starts while the signer is away. One file (0600); no key in it signs
// anything for others.

import type { KeyObject } from 'node:crypto';
import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { MAX_CHAIN_CERTIFICATES } from '../../native-free/registry/record.ts';
import { isTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import type { CertificateAuthority } from '../identity/ca.ts';
import { SERVER_AUTH } from '../identity/certificate.ts';
import { createCertificateRequest } from '../identity/certificate-request.ts';
import { type TrustBundle, verifyChain } from '../identity/chain.ts';
import { formatKey, generateKey, parseKey } from '../identity/key.ts';
import { fromPem, toPem } from '../identity/pem.ts';
import { readPrivateFile, writePrivateFile } from '../identity/private-file.ts';
import { parseRegistryAddress } from '../identity/registry-address.ts';
import { SECRET_PURPOSES, type SignedStatement } from '../identity/signer.ts';
import type { Credential } from '../identity/tls.ts';

const WHAT = "the registry's credential";
/** What a domain of many partners says of itself is longer than any secret. */
const MAX_BYTES = 4 * 1024 * 1024;

/** In base64: see native-free/ca/statement.ts. */
const signed = z.strictObject({
  record: z.base64(),
  signature: z.base64(),
  certificateChain: z.array(z.base64()).max(MAX_CHAIN_CERTIFICATES),
  sequence: z.number().int().min(1),
});

const schema = z.strictObject({
  version: z.literal(1),
  kind: z.literal('registry'),
  trustDomain: z.string().refine(isTrustDomain),
  /** Where the signer is. */
  signers: z.array(z.string().max(300)).min(1).max(16),
  certificateAuthorities: z.string().max(131_072),
  /** What the domain said of itself last. */
  statement: signed,
  /** And to partners. Absent: it is of an earlier version. */
  authorities: signed.optional(),
  certificateChain: z.string().max(65_536),
  privateKey: z.string().max(4096),
  /** By purpose, base64: see Signer.secretFor. */
  secrets: z.record(z.string(), z.base64()),
});

export interface RegistryCredential extends Credential {
  readonly signers: readonly string[];
  readonly trustBundle: TrustBundle;
  readonly statement: SignedStatement;
  readonly authorities?: SignedStatement;
  readonly privateKey: KeyObject;
  readonly secrets: Readonly<Record<string, string>>;
}

/** By the CA itself, on its machine. `hosts`: what the registry's server certificate names. */
export const createRegistryCredential = async (
  ca: CertificateAuthority,
  { signers, hosts }: { readonly signers: readonly string[]; readonly hosts: readonly string[] },
): Promise<RegistryCredential> => {
  const privateKey = await generateKey();
  const request = await createCertificateRequest(privateKey);
  const secrets: Record<string, string> = {};
  for (const purpose of Object.values(SECRET_PURPOSES))
    secrets[purpose] = Buffer.from(await ca.secretFor(purpose)).toString('base64');
  return {
    signers,
    trustBundle: ca.trustBundle,
    statement: await ca.statement(),
    authorities: await ca.ownAuthorities(),
    privateKey,
    certificateChain: await ca.signRegistryCredential(request, hosts),
    secrets,
  };
};

export const writeRegistryCredential = async (path: string, one: RegistryCredential): Promise<void> => {
  const content: z.infer<typeof schema> = {
    version: 1,
    kind: 'registry',
    trustDomain: one.trustBundle.trustDomain,
    signers: [...one.signers],
    certificateAuthorities: toPem(one.trustBundle.certificates),
    statement: written(one.statement),
    ...(one.authorities !== undefined && { authorities: written(one.authorities) }),
    certificateChain: toPem(one.certificateChain),
    privateKey: formatKey(one.privateKey),
    secrets: { ...one.secrets },
  };
  await writePrivateFile(path, Buffer.from(`${JSON.stringify(content, null, 2)}\n`), WHAT);
};

/** Throws Vl3Error: 'not-found' when there is no such file, 'failed-precondition' for one that does not hold. */
export const readRegistryCredential = async (
  path: string,
  trustDomain: string,
  now: number,
): Promise<RegistryCredential> => {
  const bytes = await readPrivateFile(path, WHAT, { maxBytes: MAX_BYTES });
  if (bytes === undefined)
    throw new Vl3Error(
      'not-found',
      `there is no ${path}: make it with \`vl3 ca registry\` where the CA is, and bring it here (--signer)`,
    );
  const content = parse(bytes, path);
  if (content.trustDomain !== trustDomain)
    throw new Vl3Error(
      'failed-precondition',
      `${WHAT} ${path} is for ${content.trustDomain}, not for ${trustDomain}: name the right one with --signer`,
    );
  for (const address of content.signers) parseRegistryAddress(address);
  const certificateChain = fromPem(content.certificateChain, path);
  const trustBundle = { trustDomain, certificates: fromPem(content.certificateAuthorities, path) };
  const result = verifyChain(certificateChain, trustBundle, now, SERVER_AUTH);
  if (result.kind === 'refused' || result.id.kind !== 'registry')
    throw new Vl3Error(
      'failed-precondition',
      `${WHAT} ${path} ${result.kind === 'refused' ? result.message : 'is of somebody else'}: make another with \`vl3 ca registry\` where the CA is`,
    );
  return {
    signers: content.signers,
    trustBundle,
    statement: readSigned(content.statement),
    ...(content.authorities !== undefined && { authorities: readSigned(content.authorities) }),
    certificateChain,
    privateKey: parseKey(content.privateKey, path),
    secrets: content.secrets,
  };
};

const written = ({
  record,
  signature,
  certificateChain,
  sequence,
}: SignedStatement): z.infer<typeof signed> => ({
  record: toBase64(record),
  signature: toBase64(signature),
  certificateChain: certificateChain.map(toBase64),
  sequence,
});

const readSigned = ({
  record,
  signature,
  certificateChain,
  sequence,
}: z.infer<typeof signed>): SignedStatement => ({
  record: fromBase64(record),
  signature: fromBase64(signature),
  certificateChain: certificateChain.map(fromBase64),
  sequence,
});

const parse = (bytes: Uint8Array, path: string): z.infer<typeof schema> => {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch {
    // Without the cause, which may quote the key.
    throw new Vl3Error(
      'failed-precondition',
      `${WHAT} ${path} is damaged: make another with \`vl3 ca registry\` where the CA is`,
    );
  }
};
