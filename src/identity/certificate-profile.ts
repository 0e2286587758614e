// How the CA makes a certificate: whose it is, for what, for how long, and the key of the request. X509-SVID, section 4. Who
// may have which one is not asked here.

import { isIP } from 'node:net';
import { Vl3Error } from '../../native-free/error.ts';
import { formatSpiffeId, type SpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { type CaFiles, serialNumber } from './ca-directory.ts';
import { BACKDATE_MS, LEASED_UNIT } from './certificate.ts';
import { readCertificateRequest } from './certificate-request.ts';
import { ECDSA, webKeys } from './key.ts';
import { isHost } from './registry-address.ts';
import { loadX509 } from './x509-library.ts';

const MAX_HOSTS = 64;
const SECOND = 1000;

export interface Profile {
  readonly id: SpiffeId;
  readonly usages: readonly string[];
  readonly validityMs: number;
  readonly hosts?: readonly string[];
  readonly isLeased?: boolean;
  /** Unix ms. */
  readonly issuedAfter?: number | undefined;
}

/** DER, for the key that signed the request. Throws Vl3Error. */
export const signCertificate = async (
  request: Uint8Array,
  profile: Profile,
  { key, certificate: issuer }: CaFiles,
  now: number,
): Promise<Uint8Array> => {
  mustBeHosts(profile.hosts ?? []);
  const publicKey = await readCertificateRequest(request);
  const x509 = await loadX509();
  const notAfter = Math.min(now + profile.validityMs, issuer.notAfter);
  if (notAfter <= now) {
    throw new Vl3Error('failed-precondition', 'the CA has expired: the domain needs a new one');
  }
  const { issuedAfter } = profile;
  const earliest = issuedAfter === undefined ? 0 : roundUp(issuedAfter - BACKDATE_MS);
  const ca = new x509.X509Certificate(issuer.der.slice().buffer);
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    // A short subject for people; X509-SVID says that nobody may rely on it.
    subject: [
      { CN: ['name' in profile.id ? profile.id.name : profile.id.kind] },
      ...(profile.isLeased ? [{ OU: [LEASED_UNIT] }] : []),
    ],
    issuer: ca.subjectName,
    notBefore: new Date(Math.max(now - BACKDATE_MS, issuer.notBefore, earliest)),
    notAfter: new Date(notAfter),
    publicKey: new Uint8Array(spki).buffer,
    signingKey: (await webKeys(key)).privateKey,
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
  return new Uint8Array(certificate.rawData);
};

const mustBeHosts = (hosts: readonly string[]): void => {
  if (hosts.length > MAX_HOSTS) {
    throw new Vl3Error('invalid-argument', `a server certificate names at most ${MAX_HOSTS} hosts`);
  }
  const stranger = hosts.find((host) => !isHost(host));
  if (stranger !== undefined) {
    throw new Vl3Error('invalid-argument', `"${stranger}" is neither a DNS name nor an IP address`);
  }
};

/** Certificates know whole seconds: the next one after `time`. */
const roundUp = (time: number): number => (Math.floor(time / SECOND) + 1) * SECOND;
