// A CA over its rotations: the key that signs, the next one, and the certificates of those that signed before. The first lies in
// two PEM files (ca-directory.ts); from the first rotation on all of it is one file (0600), replaced as one, so that a crash leaves
// the state before a step or the one after it. Which nodes were revoked lies beside it: that changes often, and holds no key.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { MAX_AUTHORITIES, MAX_REVOKED } from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { isName } from '../../native-free/registry/spiffe-id.ts';
import { type CaFiles, goodCa, mustBeCaOf, openCaDirectory } from './ca-directory.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { formatKey, parseKey } from './key.ts';
import { fromPem, toPem } from './pem.ts';
import { readPrivateFile, writePrivateFile } from './private-file.ts';

const AUTHORITIES_FILE = 'authorities.json';
const REVOKED_FILE = 'revoked.json';
const WHAT = 'the CA';

const time = z.number().int().min(0);
const keyed = z.strictObject({
  privateKey: z.string().max(4096),
  certificate: z.string().max(16_384),
  /** Since when it signs, or is in the bundle to sign next. */
  since: time,
});
const schema = z.strictObject({
  version: z.literal(1),
  active: keyed,
  next: keyed.optional(),
  /** Their keys are gone. */
  previous: z
    .array(z.strictObject({ certificate: z.string().max(16_384), since: time }))
    .max(MAX_AUTHORITIES),
  /** By purpose, base64: what followed from the first key, which need not be there any more. */
  secrets: z.record(z.string(), z.base64()),
  sequence: z.number().int().min(1),
});
const revocations = z.strictObject({
  version: z.literal(1),
  revoked: z.array(z.strictObject({ node: z.string().refine(isName), until: time })).max(MAX_REVOKED),
  sequence: z.number().int().min(0),
});
export type Revocations = Omit<z.infer<typeof revocations>, 'version'>;

export interface KeyedAuthority extends CaFiles {
  readonly since: number;
}
export interface Authorities {
  readonly active: KeyedAuthority;
  readonly next?: KeyedAuthority | undefined;
  readonly previous: readonly { readonly certificate: Certificate; readonly since: number }[];
  readonly secrets: Readonly<Record<string, string>>;
  /** Of what the domain says of itself; grows with each change. */
  readonly sequence: number;
}

/** As openCaDirectory, of a CA that may have been rotated. */
export const openAuthorities = async (
  directory: string,
  trustDomain: string,
  now: number,
  mayCreate?: boolean,
): Promise<Authorities> => {
  const path = join(directory, AUTHORITIES_FILE);
  const bytes = await readPrivateFile(path, WHAT);
  if (bytes !== undefined) {
    const found = decode(bytes, path, trustDomain, now);
    // A crash may have left the key that the first rotation was to remove.
    await removeFirstFiles(directory);
    return found;
  }
  const first = await openCaDirectory(directory, trustDomain, now, mayCreate);
  const since = first.certificate.notBefore;
  return {
    active: { ...first, since },
    previous: [],
    secrets: {},
    sequence: Math.max(1, since),
  };
};

/** On the disk when this returns; a key that is in it no more is gone from there, too. */
export const storeAuthorities = async (directory: string, authorities: Authorities): Promise<void> => {
  const { active, next, previous, secrets, sequence } = authorities;
  const content: z.infer<typeof schema> = {
    version: 1,
    active: encodeKeyed(active),
    ...(next !== undefined && { next: encodeKeyed(next) }),
    previous: previous.map(({ certificate, since }) => ({ certificate: toPem([certificate.der]), since })),
    secrets: { ...secrets },
    sequence,
  };
  const bytes = Buffer.from(`${JSON.stringify(content, null, 2)}\n`);
  await writePrivateFile(join(directory, AUTHORITIES_FILE), bytes, WHAT);
  await removeFirstFiles(directory);
};

/** Who was revoked; nobody, when there is no such file. */
export const openRevocations = async (directory: string): Promise<Revocations> => {
  const path = join(directory, REVOKED_FILE);
  const bytes = await readPrivateFile(path, WHAT);
  if (bytes === undefined) return { revoked: [], sequence: 0 };
  const { revoked, sequence } = parse(revocations, bytes, path);
  return { revoked, sequence };
};

export const storeRevocations = async (directory: string, content: Revocations): Promise<void> => {
  const bytes = Buffer.from(`${JSON.stringify({ version: 1, ...content })}\n`);
  await writePrivateFile(join(directory, REVOKED_FILE), bytes, WHAT);
};

const removeFirstFiles = async (directory: string): Promise<void> => {
  for (const name of ['key.pem', 'certificate.pem']) await rm(join(directory, name), { force: true });
};

const encodeKeyed = ({ key, certificate, since }: KeyedAuthority): z.infer<typeof keyed> => ({
  privateKey: formatKey(key),
  certificate: toPem([certificate.der]),
  since,
});

const decode = (bytes: Uint8Array, path: string, trustDomain: string, now: number): Authorities => {
  const content = parse(schema, bytes, path);
  const derOf = (pem: string): Uint8Array => {
    const [der, second] = fromPem(pem, path);
    if (der === undefined || second !== undefined) throw damaged(path);
    return der;
  };
  const decodeKeyed = ({ privateKey, certificate, since }: z.infer<typeof keyed>): KeyedAuthority => ({
    ...goodCa({ key: parseKey(privateKey, path), der: derOf(certificate) }, path, trustDomain, now),
    since,
  });
  const previous = content.previous.map((one) => {
    const certificate = parseCertificate(derOf(one.certificate));
    mustBeCaOf(certificate, path, trustDomain);
    return { certificate, since: one.since };
  });
  return {
    active: decodeKeyed(content.active),
    next: content.next && decodeKeyed(content.next),
    previous,
    secrets: content.secrets,
    sequence: content.sequence,
  };
};

const parse = <T>(schema: z.ZodType<T>, bytes: Uint8Array, path: string): T => {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch {
    // Without the cause, which may quote a key.
    throw damaged(path);
  }
};

const damaged = (path: string): Vl3Error =>
  new Vl3Error('failed-precondition', `${WHAT} ${path} is damaged: restore it from a backup`);
