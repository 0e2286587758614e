// Somebody else's issuer of SVIDs, as SPIRE makes them: certificates of its profile, a CA that is rotated with overlap, and the
// three files in which spiffe-helper would put them.

import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CLIENT_AUTH, SERVER_AUTH } from '../../src/identity/certificate.ts';
import { ECDSA, formatKey, generateKey, webKeys } from '../../src/identity/key.ts';
import { toPem } from '../../src/identity/pem.ts';
import type { OfferedSvid } from '../../src/identity/svid.ts';
import { loadX509 } from '../../src/identity/x509-library.ts';

const HOUR = 3_600_000;

interface Authority {
  readonly der: Uint8Array;
  readonly key: KeyObject;
  readonly subject: string;
}

export interface SvidShape {
  /** Milliseconds from now on; default: an hour. */
  readonly lastsMs?: number;
  readonly notBefore?: number;
  readonly key?: KeyObject;
  /** Through an intermediate CA, as with SPIRE under another authority. */
  readonly isNested?: boolean;
}

export class SpiffeAuthority {
  readonly trustDomain: string;
  #authorities: readonly Authority[] = [];

  private constructor(trustDomain: string) {
    this.trustDomain = trustDomain;
  }

  static async create(trustDomain = 'test.example'): Promise<SpiffeAuthority> {
    const authority = new SpiffeAuthority(trustDomain);
    await authority.prepare();
    return authority;
  }

  /** The CAs that speak for the domain: the last one signs. */
  get bundle(): Uint8Array[] {
    return this.#authorities.map(({ der }) => der);
  }

  /** Another CA joins the bundle. It signs at once: make known the bundle before what it signs. */
  async prepare(): Promise<void> {
    this.#authorities = [...this.#authorities, await this.#makeAuthority()];
  }

  /** All CAs but the last leave the bundle. */
  retire(): void {
    this.#authorities = this.#authorities.slice(-1);
  }

  /** `path`: "/node/n1". */
  async issue(path: string, shape: SvidShape = {}): Promise<OfferedSvid> {
    const signing = this.#authorities.at(-1);
    if (signing === undefined) throw new Error('there is no CA');
    const middle = shape.isNested ? await this.#makeAuthority(signing) : undefined;
    const privateKey = shape.key ?? (await generateKey());
    const x509 = await loadX509();
    const { digitalSignature, keyEncipherment, keyAgreement } = x509.KeyUsageFlags;
    const leaf = await certify(privateKey, middle ?? signing, {
      subject: `C=US, O=SPIRE, 2.5.4.45=${randomBytes(16).toString('hex')}`,
      notBefore: shape.notBefore ?? Date.now() - 10_000,
      notAfter: Date.now() + (shape.lastsMs ?? HOUR),
      extensions: [
        new x509.KeyUsagesExtension(digitalSignature | keyEncipherment | keyAgreement, true),
        new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: `spiffe://${this.trustDomain}${path}` },
        ]),
      ],
    });
    const certificateChain = middle === undefined ? [leaf] : [leaf, middle.der];
    return { certificateChain, privateKey, authorities: this.bundle };
  }

  async #makeAuthority(issuer?: Authority): Promise<Authority> {
    const x509 = await loadX509();
    const key = await generateKey();
    const subject = `C=US, O=SPIFFE, 2.5.4.5=${randomBytes(8).toString('hex')}`;
    const { keyCertSign, cRLSign } = x509.KeyUsageFlags;
    const der = await certify(key, issuer ?? { key, subject }, {
      subject,
      notBefore: Date.now() - 10_000,
      notAfter: Date.now() + 24 * HOUR,
      extensions: [
        new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${this.trustDomain}` }]),
      ],
    });
    return { der, key, subject };
  }
}

interface Certified {
  readonly subject: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly extensions: InstanceType<Awaited<ReturnType<typeof loadX509>>['Extension']>[];
}

const certify = async (
  key: KeyObject,
  issuer: Pick<Authority, 'key' | 'subject'>,
  { subject, notBefore, notAfter, extensions }: Certified,
): Promise<Uint8Array> => {
  const x509 = await loadX509();
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: `40${randomBytes(8).toString('hex')}`,
    subject,
    issuer: issuer.subject,
    notBefore: new Date(notBefore),
    notAfter: new Date(notAfter),
    publicKey: new Uint8Array(spki).buffer,
    signingKey: (await webKeys(issuer.key)).privateKey,
    signingAlgorithm: ECDSA,
    extensions,
  });
  return new Uint8Array(certificate.rawData);
};

/** The contents of the three files, by name. */
export const svidFiles = ({ certificateChain, privateKey, authorities }: OfferedSvid) => ({
  'svid.pem': toPem(certificateChain),
  'svid_key.pem': formatKey(privateKey),
  'svid_bundle.pem': toPem(authorities),
});

/** Writes them one after another, as spiffe-helper does. */
export const writeSvidFiles = (directory: string, svid: OfferedSvid): void => {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  for (const [name, text] of Object.entries(svidFiles(svid))) {
    const path = join(directory, name);
    writeFileSync(path, text, { mode: name === 'svid_key.pem' ? 0o600 : 0o644 });
    chmodSync(path, name === 'svid_key.pem' ? 0o600 : 0o644);
  }
};
