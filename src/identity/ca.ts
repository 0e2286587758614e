// The signer in the registry's own process: the domain's CA and what it signs. Certificate profiles follow X509-SVID,
// section 4. Not here: where the CA is kept (ca-directory.ts), and who may ask for what (the registry decides).

import { hkdfSync, type KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import {
  formatSpiffeId,
  parseName,
  parseTrustDomain,
  type SpiffeId,
} from '../../native-free/registry/spiffe-id.ts';
import { openCaDirectory, serialNumber } from './ca-directory.ts';
import { type Certificate, CLIENT_AUTH, DOCUMENT_SIGNING, SERVER_AUTH } from './certificate.ts';
import { readCertificateRequest } from './certificate-request.ts';
import type { TrustBundle } from './chain.ts';
import { ECDSA, webKeys } from './key.ts';
import { isHost } from './registry-address.ts';
import type { Signer } from './signer.ts';
import { loadX509 } from './x509-library.ts';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** How long an SVID or a server certificate lasts; six days of it is the outage budget. */
export const SVID_VALIDITY_MS = 7 * DAY;
const ADMIN_VALIDITY_MS = 365 * DAY;
/** What is granted lasts a term and is signed at any time in the first of these. */
const ADMISSION_TERMS = 2;
/** Clocks may differ this much: certificates start that long ago. */
const BACKDATE_MS = 5 * MINUTE;

const MAX_HOSTS = 64;

export interface CaOptions {
  /** Holds the CA and nothing else; made, 0700, when it is missing. */
  readonly directory: string;
  readonly trustDomain: string;
  readonly svidValidityMs?: number;
  /** False: the CA must be there already. Default true. */
  readonly mayCreate?: boolean;
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
    const { key, certificate } = await openCaDirectory(
      directory,
      options.trustDomain,
      now(),
      options.mayCreate,
    );
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
    const stranger = hosts.find((host) => !isHost(host));
    if (stranger !== undefined) {
      throw new Vl3Error('invalid-argument', `"${stranger}" is neither a DNS name nor an IP address`);
    }
    return await this.#sign(request, {
      id: { kind: 'registry', trustDomain: this.trustBundle.trustDomain },
      usages: [SERVER_AUTH],
      validityMs: this.#svidValidityMs,
      hosts,
    });
  }

  async signAdmissionCertificate(request: Uint8Array): Promise<Uint8Array[]> {
    return await this.#sign(request, {
      id: { kind: 'admission', trustDomain: this.trustBundle.trustDomain },
      usages: [DOCUMENT_SIGNING],
      validityMs: this.#svidValidityMs * ADMISSION_TERMS,
    });
  }

  async secretFor(purpose: string): Promise<Uint8Array> {
    const { d } = this.#key.export({ format: 'jwk' });
    if (d === undefined) throw new Vl3Error('internal', 'the CA key is no private key');
    return new Uint8Array(hkdfSync('sha256', Buffer.from(d, 'base64url'), '', purpose, 32));
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
      subject: [{ CN: ['name' in profile.id ? profile.id.name : profile.id.kind] }],
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
