// Where a domain's CA is kept: a directory with its key and its certificate, made in one step at the first start and
// never written again. What is there is checked hard: a registry with a wrong CA would orphan every node.

import { type KeyObject, randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { type Certificate, isIssuedBy, isValidAt, parseCertificate } from './certificate.ts';
import { ECDSA, formatKey, generateKey, parseKey, webKeys } from './key.ts';
import { fromPem, toPem } from './pem.ts';
import {
  errorCode,
  makePrivateDirectory,
  readPrivateFile,
  syncDirectory,
  writeDurably,
} from './private-file.ts';
import { loadX509 } from './x509-library.ts';

const DAY = 24 * 60 * 60_000;
const CA_VALIDITY_MS = 3652 * DAY;
const KEY_FILE = 'key.pem';
const CERTIFICATE_FILE = 'certificate.pem';
const TEMPORARY = '.new-ca-';
const LOST_RACE = ['ENOTEMPTY', 'EEXIST', 'ENOENT'];

export interface CaFiles {
  readonly key: KeyObject;
  readonly certificate: Certificate;
}

/**
 * The CA of the directory, made now if there is none and `mayCreate`. `now` is unix ms. Throws
 * Vl3Error('failed-precondition') when what is there is not this trust domain's good CA.
 */
export const openCaDirectory = async (
  directory: string,
  trustDomain: string,
  now: number,
  mayCreate = true,
): Promise<CaFiles> => {
  const found = await load(directory, trustDomain, now);
  if (found !== undefined) return found;
  if (!mayCreate) {
    throw new Vl3Error(
      'failed-precondition',
      `the CA in ${directory} is gone, and no other can take its place: restore it from a backup, or start a new domain with another --state-dir`,
    );
  }
  await create(directory, trustDomain, now);
  const made = await load(directory, trustDomain, now);
  if (made === undefined) {
    throw new Vl3Error(
      'failed-precondition',
      `the CA in ${directory} was removed while it was made: try again`,
    );
  }
  await removeLeftovers(directory);
  return made;
};

/** Whether anything of a CA is there, good or not. */
export const hasCa = async (directory: string): Promise<boolean> => {
  // The last once it has been rotated, see ca-authorities.ts.
  const files = [KEY_FILE, CERTIFICATE_FILE, 'authorities.json'].map((name) => join(directory, name));
  const found = await Promise.all(files.map((file) => readPrivateFile(file, 'the CA')));
  return found.some((bytes) => bytes !== undefined);
};

/** The CA of the directory; undefined when there is no such directory or it is empty. */
const load = async (
  directory: string,
  trustDomain: string,
  now: number,
  again = false,
): Promise<CaFiles | undefined> => {
  const keyPath = join(directory, KEY_FILE);
  const certificatePath = join(directory, CERTIFICATE_FILE);
  const certificateBytes = await readPrivateFile(certificatePath, 'the CA certificate');
  const keyBytes = await readPrivateFile(keyPath, 'the CA key');
  if (keyBytes === undefined && certificateBytes === undefined) return undefined;
  // Both appear at once: another first start may have put them there between the two reads.
  if (certificateBytes === undefined && !again) return await load(directory, trustDomain, now, true);
  if (keyBytes === undefined || certificateBytes === undefined) {
    const missing = keyBytes === undefined ? keyPath : certificatePath;
    throw new Vl3Error('failed-precondition', `half of the CA is missing: restore ${missing} from a backup`);
  }
  const key = parseKey(Buffer.from(keyBytes).toString(), keyPath);
  const [der, second] = fromPem(Buffer.from(certificateBytes).toString(), certificatePath);
  if (der === undefined || second !== undefined) {
    throw new Vl3Error('failed-precondition', `${certificatePath} must hold exactly one certificate`);
  }
  return goodCa({ key, der }, certificatePath, trustDomain, now);
};

/** The CA in hand, if it is a good one of the trust domain that is valid at `now`; `path` is where it was read. */
export const goodCa = (
  { key, der }: { readonly key: KeyObject; readonly der: Uint8Array },
  path: string,
  trustDomain: string,
  now: number,
): CaFiles => {
  const certificate = parseCertificate(der);
  if (!certificate.x509.checkPrivateKey(key)) {
    throw new Vl3Error(
      'failed-precondition',
      `the CA's key is not the key of ${path}: restore both from one backup`,
    );
  }
  mustBeCaOf(certificate, path, trustDomain);
  if (!isValidAt(certificate, now)) {
    throw new Vl3Error(
      'failed-precondition',
      `the CA in ${path} is not valid at this machine's time: check the clock`,
    );
  }
  return { key, certificate };
};

/** Throws Vl3Error('failed-precondition') unless it is a self-signed CA of the trust domain. */
export const mustBeCaOf = (certificate: Certificate, path: string, trustDomain: string): void => {
  if (!isIssuedBy(certificate, certificate)) {
    throw new Vl3Error('failed-precondition', `${path} is not a self-signed CA certificate`);
  }
  const [uri] = certificate.uris;
  if (uri !== `spiffe://${trustDomain}`) {
    throw new Vl3Error(
      'failed-precondition',
      `the CA in ${path} is of ${uri ?? 'no trust domain'}, not of spiffe://${trustDomain}: start with the trust domain it was made with, or with another state directory`,
    );
  }
};

/** A fresh CA of the trust domain, not stored anywhere. */
export const makeCa = async (trustDomain: string, now: number): Promise<CaFiles> => {
  const key = await generateKey();
  return { key, certificate: parseCertificate(await selfSign(key, trustDomain, now)) };
};

/**
 * Fills a directory beside the final one and renames it: a crash leaves no half CA, and since a rename never replaces
 * a directory that has something in it, of two first starts at once one makes the CA and both use it.
 */
const create = async (directory: string, trustDomain: string, now: number): Promise<void> => {
  const parent = dirname(directory);
  await makePrivateDirectory(parent);
  const temporary = join(parent, `${TEMPORARY}${randomBytes(8).toString('hex')}`);
  try {
    const key = await generateKey();
    const certificate = await selfSign(key, trustDomain, now);
    await mkdir(temporary, { mode: 0o700 });
    await writeDurably(join(temporary, KEY_FILE), Buffer.from(formatKey(key)));
    await writeDurably(join(temporary, CERTIFICATE_FILE), Buffer.from(toPem([certificate])));
    await syncDirectory(temporary);
    await rename(temporary, directory);
    await syncDirectory(parent);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true });
    // Another first start was faster; ENOENT: and it has already cleared ours away.
    if (LOST_RACE.includes(errorCode(cause) ?? '')) return;
    if (cause instanceof Vl3Error) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('failed-precondition', `cannot make the CA in ${directory}: ${why}`, { cause });
  }
};

/** What a crash left of an earlier try. */
const removeLeftovers = async (directory: string): Promise<void> => {
  const parent = dirname(directory);
  for (const name of await readdir(parent)) {
    if (name.startsWith(TEMPORARY)) await rm(join(parent, name), { recursive: true, force: true });
  }
};

const selfSign = async (key: KeyObject, trustDomain: string, now: number): Promise<Uint8Array> => {
  const x509 = await loadX509();
  const keys = await webKeys(key);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [`vl3 CA of ${trustDomain}`.slice(0, 64)] }],
    notBefore: new Date(now - DAY),
    notAfter: new Date(now + CA_VALIDITY_MS),
    keys,
    signingAlgorithm: ECDSA,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return new Uint8Array(certificate.rawData);
};

/** 16 random bytes in hex, positive and without a leading zero byte. */
export const serialNumber = (): string => {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
};
