// One X.509 certificate, read strictly: OpenSSL answers for signatures, dates and keys, and the extensions that decide
// what a certificate may be used for are read here (RFC 5280, section 4.2). Not here: chains (chain.ts).

import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { Vl3Error } from '../../native-free/error.ts';
import { MalformedDer, readNamedBits, readObjectIdentifier, readOne, readValues, TAG } from './der.ts';

/** Larger ones are refused unread. */
export const MAX_CERTIFICATE_BYTES = 8192;

const OID = {
  keyUsage: '2.5.29.15',
  subjectAlternativeName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  extendedKeyUsage: '2.5.29.37',
} as const;
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
export const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** Clocks may differ this much: certificates begin that long before they are issued. */
export const BACKDATE_MS = 5 * 60_000;
/** RFC 9336: of what signs grants, and opens no connection. */
export const DOCUMENT_SIGNING = '1.3.6.1.5.5.7.3.36';

/** Bits of keyUsage, RFC 5280 section 4.2.1.3. */
const KEY_USAGE = { digitalSignature: 0, keyCertSign: 5, cRLSign: 6 } as const;
/** [3] of TBSCertificate, and [6] and [2] of GeneralName. */
const EXTENSIONS_TAG = 0xa3;
const URI_TAG = 0x86;

export interface Certificate {
  readonly der: Uint8Array;
  readonly x509: X509Certificate;
  readonly publicKey: KeyObject;
  /** Lowercase hex. */
  readonly serial: string;
  /** Unix ms; valid at both ends. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly isCa: boolean;
  /** How many CAs may stand between this one and a leaf; undefined: any number. */
  readonly pathLength: number | undefined;
  readonly uris: readonly string[];
  readonly extendedKeyUsages: readonly string[];
  /** The keyUsage bits digitalSignature, keyCertSign and cRLSign. */
  readonly canSign: boolean;
  readonly canCertify: boolean;
  readonly canRevoke: boolean;
  /** Of an SVID: a signer apart leases this node's prefixes, and no other word gives it any. */
  readonly isLeased: boolean;
}

/** In the subject, beside the name: X509-SVID leaves it free, and every reader of certificates passes over it. */
export const LEASED_UNIT = 'vl3 leased';

/** SHA-256, 32 B. */
export const fingerprint = (der: Uint8Array): Uint8Array =>
  new Uint8Array(createHash('sha256').update(der).digest());

/** Reads DER; keeps `der`. Throws Vl3Error('invalid-argument'). */
export const parseCertificate = (der: Uint8Array): Certificate => {
  if (der.length > MAX_CERTIFICATE_BYTES) {
    throw new Vl3Error(
      'invalid-argument',
      `the certificate is larger than ${MAX_CERTIFICATE_BYTES} bytes: is it one?`,
    );
  }
  try {
    return read(der);
  } catch (cause) {
    throw new Vl3Error(
      'invalid-argument',
      'this is not an X.509 certificate in DER: is it truncated or of another format?',
      { cause },
    );
  }
};

export const isValidAt = (certificate: Certificate, now: number): boolean =>
  certificate.notBefore <= now && now <= certificate.notAfter;

/** True when `issuer` is a CA whose key signed `certificate`. Says nothing of dates. */
export const isIssuedBy = (certificate: Certificate, issuer: Certificate): boolean => {
  try {
    return (
      issuer.isCa &&
      issuer.canCertify &&
      certificate.x509.checkIssued(issuer.x509) &&
      certificate.x509.verify(issuer.publicKey)
    );
  } catch {
    return false;
  }
};

const read = (der: Uint8Array): Certificate => {
  const x509 = new X509Certificate(der);
  const extensions = readExtensions(der);
  const constraints = extensions.get(OID.basicConstraints);
  const usages = extensions.get(OID.keyUsage);
  const bits = usages === undefined ? undefined : readNamedBits(readOne(usages, TAG.bitString).contents);
  const { isCa, pathLength } = readBasicConstraints(constraints);
  // Two readers of the same bytes must agree on what gives the most power.
  if (x509.ca && !isCa) throw new MalformedDer();
  return {
    der,
    x509,
    publicKey: x509.publicKey,
    serial: x509.serialNumber.toLowerCase(),
    notBefore: x509.validFromDate.getTime(),
    notAfter: x509.validToDate.getTime(),
    isCa: isCa && x509.ca,
    pathLength,
    uris: readUris(extensions.get(OID.subjectAlternativeName)),
    extendedKeyUsages: readUsages(extensions.get(OID.extendedKeyUsage)),
    canSign: bits?.has(KEY_USAGE.digitalSignature) ?? false,
    canCertify: bits?.has(KEY_USAGE.keyCertSign) ?? false,
    canRevoke: bits?.has(KEY_USAGE.cRLSign) ?? false,
    isLeased: x509.subject?.split('\n').includes(`OU=${LEASED_UNIT}`) ?? false,
  };
};

/** The extensions that vl3 knows, by OID. An unknown critical one makes the certificate unusable. */
const readExtensions = (der: Uint8Array): Map<string, Uint8Array> => {
  const [tbs] = readValues(readOne(der, TAG.sequence).contents);
  if (tbs?.tag !== TAG.sequence) throw new MalformedDer();
  const wrapped = readValues(tbs.contents).filter((value) => value.tag === EXTENSIONS_TAG);
  const found = new Map<string, Uint8Array>();
  if (wrapped.length > 1) throw new MalformedDer();
  const [list] = wrapped;
  if (list === undefined) return found;
  const known: string[] = Object.values(OID);
  const seen = new Set<string>();
  for (const extension of readValues(readOne(list.contents, TAG.sequence).contents)) {
    const parts = readValues(extension.contents);
    const [type] = parts;
    const value = parts.at(-1);
    if (
      extension.tag !== TAG.sequence ||
      type?.tag !== TAG.objectIdentifier ||
      value?.tag !== TAG.octetString ||
      parts.length > 3
    ) {
      throw new MalformedDer();
    }
    const flag = parts.length === 3 ? parts[1] : undefined;
    if (parts.length === 3 && (flag?.tag !== TAG.boolean || flag.contents.length !== 1)) {
      throw new MalformedDer();
    }
    const critical = flag !== undefined && flag.contents[0] !== 0;
    const oid = readObjectIdentifier(type.contents);
    if (seen.has(oid)) throw new MalformedDer();
    seen.add(oid);
    if (known.includes(oid)) found.set(oid, value.contents);
    else if (critical) throw new MalformedDer();
  }
  return found;
};

const readBasicConstraints = (
  value: Uint8Array | undefined,
): { isCa: boolean; pathLength: number | undefined } => {
  if (value === undefined) return { isCa: false, pathLength: undefined };
  const parts = readValues(readOne(value, TAG.sequence).contents);
  const flag = parts[0]?.tag === TAG.boolean ? parts.shift() : undefined;
  const isCa = flag !== undefined && flag.contents.length === 1 && flag.contents[0] === 0xff;
  const length = parts.shift();
  if (parts.length > 0 || (flag !== undefined && !isCa)) throw new MalformedDer();
  if (length === undefined) return { isCa, pathLength: undefined };
  const [pathLength] = length.contents;
  if (!isCa || length.tag !== TAG.integer || length.contents.length !== 1 || pathLength === undefined) {
    throw new MalformedDer();
  }
  if (pathLength > 0x7f) throw new MalformedDer();
  return { isCa, pathLength };
};

const readUris = (value: Uint8Array | undefined): string[] =>
  value === undefined
    ? []
    : readValues(readOne(value, TAG.sequence).contents)
        .filter((general) => general.tag === URI_TAG)
        .map((general) => Buffer.from(general.contents).toString('latin1'));

const readUsages = (value: Uint8Array | undefined): string[] =>
  value === undefined
    ? []
    : readValues(readOne(value, TAG.sequence).contents).map((usage) => {
        if (usage.tag !== TAG.objectIdentifier) throw new MalformedDer();
        return readObjectIdentifier(usage.contents);
      });
