// A replica's certificate: a CA of its own signs one certificate for what API servers call the webhook by, and its key is
// forgotten at once. So the CA that they are told to trust vouches for one key, which never leaves this process. Also how
// the certificates of all replicas are read again from where API servers find them.

import { createHash, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Anchor } from '../../native-free/kube/ca-bundle.ts';
import { serialNumber } from '../identity/ca-directory.ts';
import { SERVER_AUTH } from '../identity/certificate.ts';
import { ECDSA, formatKey, generateKey, webKeys } from '../identity/key.ts';
import { toPem } from '../identity/pem.ts';
import { loadX509 } from '../identity/x509-library.ts';

export interface ServingCertificate {
  /** PEM. */
  readonly key: string;
  readonly certificate: string;
  /** What API servers are told to trust. */
  readonly anchor: Anchor;
  readonly hosts: readonly string[];
  /** Unix ms. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface CertificateWish {
  readonly holder: string;
  /** Names and addresses. */
  readonly hosts: readonly string[];
  /** Unix ms. */
  readonly now: number;
  readonly lifetimeMs: number;
}

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const ORGANIZATION = 'vl3 webhook';
/** API servers' clocks may be behind by so much. */
const BACKDATE_MS = 3_600_000;

/** What a replica of this name is known by in certificates, whose fields take no long names. */
export const holderOf = (name: string): string =>
  createHash('sha256').update(name).digest('hex').slice(0, 32);

export const makeServingCertificate = async ({
  holder,
  hosts,
  now,
  lifetimeMs,
}: CertificateWish): Promise<ServingCertificate> => {
  const x509 = await loadX509();
  const [caKeys, key] = [await webKeys(await generateKey()), await generateKey()];
  const serial = serialNumber();
  const notBefore = now - BACKDATE_MS;
  const notAfter = now + lifetimeMs;
  const lasting = { notBefore: new Date(notBefore), notAfter: new Date(notAfter) };
  // Each its own name: whoever verifies finds the one by it.
  const name = (what: string) => [{ O: [ORGANIZATION] }, { OU: [holder] }, { CN: [`${what} ${serial}`] }];
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...lasting,
    serialNumber: serial,
    name: name('CA'),
    keys: caKeys,
    signingAlgorithm: ECDSA,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  const leaf = await x509.X509CertificateGenerator.create({
    ...lasting,
    serialNumber: serialNumber(),
    subject: name('webhook'),
    issuer: ca.subjectName,
    publicKey: (await webKeys(key)).publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: ECDSA,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([SERVER_AUTH]),
      new x509.SubjectAlternativeNameExtension(
        hosts.map((host) => ({ type: isIP(host) ? 'ip' : 'dns', value: host }) as const),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
    ],
  });
  return {
    key: formatKey(key),
    certificate: toPem([new Uint8Array(leaf.rawData)]),
    anchor: { pem: toPem([new Uint8Array(ca.rawData)]), holder, notAfter },
    hosts,
    notBefore,
    notAfter,
  };
};

/** Of a caBundle's text; what is no certificate is left out. */
export const readAnchors = (bundle: string): Anchor[] =>
  [...bundle.matchAll(BLOCK)].flatMap(([block]) => {
    try {
      const { raw, subject, validToDate } = new X509Certificate(block);
      const fields = subject.split('\n');
      const unit = fields.find((one) => one.startsWith('OU='))?.slice(3);
      const isOurs = fields.includes(`O=${ORGANIZATION}`);
      const pem = toPem([new Uint8Array(raw)]);
      return [{ pem, holder: isOurs ? unit : undefined, notAfter: validToDate.getTime() }];
    } catch {
      return [];
    }
  });
