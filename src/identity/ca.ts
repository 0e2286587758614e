// The signer in the registry's own process: a domain's CA in a directory, made at the first start and never again.
// Certificate profiles follow X509-SVID, section 4. Not here: who may ask for what (the registry decides).

import { type KeyObject, randomBytes } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import {
  formatSpiffeId,
  parseName,
  parseTrustDomain,
  type SpiffeId,
} from '../../native-free/registry/spiffe-id.ts';
import {
  type Certificate,
  CLIENT_AUTH,
  isIssuedBy,
  isValidAt,
  parseCertificate,
  SERVER_AUTH,
} from './certificate.ts';
import { readCertificateRequest } from './certificate-request.ts';
import type { TrustBundle } from './chain.ts';
import { ECDSA, formatKey, generateKey, parseKey, webKeys } from './key.ts';
import { fromPem, toPem } from './pem.ts';
import {
  errorCode,
  makePrivateDirectory,
  readPrivateFile,
  syncDirectory,
  writeDurably,
} from './private-file.ts';
import type { Signer } from './signer.ts';
import { loadX509 } from './x509-library.ts';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** How long an SVID or a server certificate lasts; six days of it is the outage budget, see renewal.ts. */
export const SVID_VALIDITY_MS = 7 * DAY;
const ADMIN_VALIDITY_MS = 365 * DAY;
const CA_VALIDITY_MS = 3652 * DAY;
/** Clocks may differ this much: certificates start that long ago. */
export const BACKDATE_MS = 5 * MINUTE;

const MAX_HOSTS = 64;
const KEY_FILE = 'key.pem';
const CERTIFICATE_FILE = 'certificate.pem';

export interface CaOptions {
  /** Holds the CA and nothing else; made, 0700, when it is missing. */
  readonly directory: string;
  readonly trustDomain: string;
  readonly svidValidityMs?: number;
}

interface CaDependencies {
  /** Unix ms. */
  readonly now: () => number;
}

interface Profile {
  readonly id: SpiffeId;
  readonly usages: readonly string[];
  readonly validityMs: number;
  readonly hosts?: readonly string[];
}

export class CertificateAuthority implements Signer {
  readonly trustBundle: TrustBundle;
  readonly #key: KeyObject;
  readonly #certificate: Certificate;
  readonly #svidValidityMs: number;
  readonly #now: () => number;

  private constructor(options: CaOptions, key: KeyObject, certificate: Certificate, now: () => number) {
    this.trustBundle = { trustDomain: options.trustDomain, certificates: [certificate.der] };
    this.#key = key;
    this.#certificate = certificate;
    this.#svidValidityMs = options.svidValidityMs ?? SVID_VALIDITY_MS;
    this.#now = now;
  }

  /** Opens the CA of the directory, or makes it. Throws Vl3Error when what is there is not this domain's good CA. */
  static async open(
    options: CaOptions,
    { now }: CaDependencies = { now: Date.now },
  ): Promise<CertificateAuthority> {
    parseTrustDomain(options.trustDomain);
    const directory = resolve(options.directory);
    const found = await load(directory, options.trustDomain, now());
    if (found === undefined) await create(directory, options.trustDomain, now());
    const { key, certificate } = found ?? (await mustLoad(directory, options.trustDomain, now()));
    return new CertificateAuthority(options, key, certificate, now);
  }

  async signNodeSvid(request: Uint8Array, node: string): Promise<Uint8Array[]> {
    parseName('node', node);
    return await this.#sign(request, {
      id: { kind: 'node', trustDomain: this.trustBundle.trustDomain, name: node },
      usages: [CLIENT_AUTH, SERVER_AUTH],
      validityMs: this.#svidValidityMs,
    });
  }

  async signAdminCredential(request: Uint8Array, name: string): Promise<Uint8Array[]> {
    parseName('admin', name);
    return await this.#sign(request, {
      id: { kind: 'admin', trustDomain: this.trustBundle.trustDomain, name },
      usages: [CLIENT_AUTH],
      validityMs: ADMIN_VALIDITY_MS,
    });
  }

  async signServerCertificate(request: Uint8Array, hosts: readonly string[]): Promise<Uint8Array[]> {
    if (hosts.length > MAX_HOSTS) {
      throw new Vl3Error('invalid-argument', `a server certificate names at most ${MAX_HOSTS} hosts`);
    }
    return await this.#sign(request, {
      id: { kind: 'registry', trustDomain: this.trustBundle.trustDomain },
      usages: [SERVER_AUTH],
      validityMs: this.#svidValidityMs,
      hosts,
    });
  }

  async #sign(request: Uint8Array, profile: Profile): Promise<Uint8Array[]> {
    const publicKey = await readCertificateRequest(request);
    const x509 = await loadX509();
    const now = this.#now();
    const notAfter = Math.min(now + profile.validityMs, this.#certificate.notAfter);
    if (notAfter <= now) {
      throw new Vl3Error('failed-precondition', 'the CA has expired: the domain needs a new one');
    }
    const ca = new x509.X509Certificate(this.#certificate.der.slice().buffer);
    const spki = publicKey.export({ type: 'spki', format: 'der' });
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      // A short subject for people; X509-SVID says that nobody may rely on it.
      subject: [{ CN: [profile.id.kind === 'registry' ? 'registry' : profile.id.name] }],
      issuer: ca.subjectName,
      notBefore: new Date(Math.max(now - BACKDATE_MS, this.#certificate.notBefore)),
      notAfter: new Date(notAfter),
      publicKey: new Uint8Array(spki).buffer,
      signingKey: (await webKeys(this.#key)).privateKey,
      signingAlgorithm: ECDSA,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([...profile.usages]),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: formatSpiffeId(profile.id) },
          ...(profile.hosts ?? []).map((host) => ({ type: isIP(host) ? 'ip' : 'dns', value: host }) as const),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
      ],
    });
    return [new Uint8Array(certificate.rawData)];
  }
}

interface CaFiles {
  readonly key: KeyObject;
  readonly certificate: Certificate;
}

/** The CA of the directory; undefined when there is no such directory or it is empty. */
const load = async (directory: string, trustDomain: string, now: number): Promise<CaFiles | undefined> => {
  const keyPath = join(directory, KEY_FILE);
  const certificatePath = join(directory, CERTIFICATE_FILE);
  const keyBytes = await readPrivateFile(keyPath, 'the CA key');
  const certificateBytes = await readPrivateFile(certificatePath, 'the CA certificate');
  if (keyBytes === undefined && certificateBytes === undefined) return undefined;
  if (keyBytes === undefined || certificateBytes === undefined) {
    const missing = keyBytes === undefined ? keyPath : certificatePath;
    throw new Vl3Error('failed-precondition', `half of the CA is missing: restore ${missing} from a backup`);
  }
  const key = parseKey(Buffer.from(keyBytes).toString(), keyPath);
  const [der, second] = fromPem(Buffer.from(certificateBytes).toString(), certificatePath);
  if (der === undefined || second !== undefined) {
    throw new Vl3Error('failed-precondition', `${certificatePath} must hold exactly one certificate`);
  }
  const certificate = parseCertificate(der);
  if (!certificate.x509.checkPrivateKey(key)) {
    throw new Vl3Error(
      'failed-precondition',
      `${keyPath} is not the key of ${certificatePath}: restore both from one backup`,
    );
  }
  if (!isIssuedBy(certificate, certificate)) {
    throw new Vl3Error('failed-precondition', `${certificatePath} is not a self-signed CA certificate`);
  }
  const [uri] = certificate.uris;
  if (uri !== `spiffe://${trustDomain}`) {
    throw new Vl3Error(
      'failed-precondition',
      `the CA in ${directory} is of ${uri ?? 'no trust domain'}, not of spiffe://${trustDomain}: start the registry with the trust domain it was made with, or with another state directory`,
    );
  }
  if (!isValidAt(certificate, now)) {
    throw new Vl3Error(
      'failed-precondition',
      `the CA in ${directory} is not valid at this machine's time: check the clock`,
    );
  }
  return { key, certificate };
};

const mustLoad = async (directory: string, trustDomain: string, now: number): Promise<CaFiles> => {
  const found = await load(directory, trustDomain, now);
  if (found === undefined) throw new Vl3Error('internal', `the CA in ${directory} vanished as it was made`);
  return found;
};

/**
 * Fills a directory beside the final one and renames it: a crash leaves no half CA, and since a rename never replaces
 * a directory that has something in it, of two first starts at once one makes the CA and both use it.
 */
const create = async (directory: string, trustDomain: string, now: number): Promise<void> => {
  const parent = dirname(directory);
  await makePrivateDirectory(parent);
  const temporary = join(parent, `.ca-${randomBytes(8).toString('hex')}.tmp`);
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
    const code = errorCode(cause);
    if (code === 'ENOTEMPTY' || code === 'EEXIST') return;
    if (cause instanceof Vl3Error) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('failed-precondition', `cannot make the CA in ${directory}: ${why}`, { cause });
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
const serialNumber = (): string => {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
};
