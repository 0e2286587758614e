// Trust bundles as SPIFFE bundle documents: this domain's, for whoever asks, and partners', read strictly. Every certificate must
// be a CA's that this domain may have, with a key that is no weaker than it has to be; one that is not refuses the document
// whole. Not here: the document's form (federation/bundle-document.ts), and whom to believe it from (src/federation).

import { Vl3Error } from '../../native-free/error.ts';
import {
  formatBundleDocument,
  type KeyParameters,
  readBundleDocument,
  type X509Entry,
} from '../../native-free/federation/bundle-document.ts';
import type { BundleCertificate, SpiffeBundle } from '../../native-free/federation/bundle-rules.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { parseTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import { type Certificate, fingerprint, parseCertificate } from './certificate.ts';
import type { TrustBundle } from './chain.ts';

/** What this domain tells others: in seconds, as often as the standard has it without any hint. */
export const REFRESH_HINT_S = 300;

/** P-256, P-384, P-521. */
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];
const MIN_RSA_BITS = 2048;
/** Larger ones cost whoever verifies more than they gain anybody. */
const MAX_RSA_BITS = 8192;
const MIN_RSA_EXPONENT = 65_537n;

export interface EncodeOptions {
  /** Higher than of any other content that was ever given out. Default: `firstSequence`. */
  readonly sequence?: bigint;
  /** Seconds. */
  readonly refreshHint?: number;
  /** What the domain signed of its CAs. */
  readonly signed?: SignedRecord | undefined;
}

/** The same text for the same bundle. Throws Vl3Error('invalid-argument') for one that nobody would take. */
export const encodeSpiffeBundle = (bundle: TrustBundle, options: EncodeOptions = {}): string => {
  const certificates = bundle.certificates.map((der) => parseCertificate(der));
  const text = formatBundleDocument({
    entries: certificates.map(({ der, publicKey }) => ({
      der,
      key: keyOf(publicKey.export({ format: 'jwk' })),
    })),
    sequence: options.sequence ?? firstSequence(certificates),
    refreshHint: options.refreshHint ?? REFRESH_HINT_S,
    signed: options.signed,
  });
  // What is refused elsewhere is found out here.
  decodeSpiffeBundle(text, bundle.trustDomain);
  return text;
};

/**
 * Grows whenever a CA is added, without anything being stored: the time, in seconds, from which the latest is valid. Whoever
 * takes a CA out has to give, and keep, a higher one.
 */
const firstSequence = (certificates: readonly Certificate[]): bigint =>
  BigInt(Math.max(0, ...certificates.map(({ notBefore }) => Math.floor(notBefore / 1000))));

/** `trustDomain` is whose it is to be, which no bundle says. Throws Vl3Error('invalid-argument') that names the place. */
export const decodeSpiffeBundle = (text: string, trustDomain: string): SpiffeBundle => {
  parseTrustDomain(trustDomain);
  const { x509, jwtKeyIds, ignored, sequence, refreshHint, signed } = readBundleDocument(text);
  const certificates = x509.map((entry) => readAuthority(entry, trustDomain));
  const prints = new Set(certificates.map((one) => one.fingerprint));
  if (prints.size < certificates.length) throw refuse('a certificate is there twice');
  return { trustDomain, certificates, jwtKeyIds, ignored, sequence, refreshHint, signed, text };
};

const readAuthority = ({ place, der, key }: X509Entry, trustDomain: string): BundleCertificate => {
  let certificate: Certificate;
  try {
    certificate = parseCertificate(der);
  } catch (cause) {
    throw refuse(`${place} holds no certificate that can be read`, cause);
  }
  if (!certificate.isCa || !certificate.canCertify)
    throw refuse(`${place} holds a certificate that is no CA's (basic constraints, key usage)`);
  const [uri, second] = certificate.uris;
  if (second !== undefined) throw refuse(`${place} holds a certificate with two URIs`);
  // A CA need not be an SVID itself; when it is, then this domain's, without a path (X509-SVID, section 3.2).
  if (uri !== undefined && uri !== `spiffe://${trustDomain}` && uri !== `spiffe://${trustDomain}/`)
    throw refuse(`${place} holds the CA of ${printable(uri)}, not of spiffe://${trustDomain}`);
  mustBeStrong(certificate, place);
  mustBeSame(keyOf(certificate.publicKey.export({ format: 'jwk' })), key, place);
  const { notBefore, notAfter } = certificate;
  return { der, fingerprint: Buffer.from(fingerprint(der)).toString('hex'), notBefore, notAfter };
};

const mustBeStrong = ({ publicKey }: Certificate, place: string): void => {
  const {
    modulusLength = 0,
    publicExponent = 0n,
    namedCurve = 'no named curve',
  } = publicKey.asymmetricKeyDetails ?? {};
  switch (publicKey.asymmetricKeyType) {
    case 'ec':
      if (!CURVES.includes(namedCurve))
        throw refuse(`${place} holds a key on ${namedCurve}, not on P-256, P-384 or P-521`);
      return;
    case 'rsa':
      if (modulusLength < MIN_RSA_BITS || modulusLength > MAX_RSA_BITS)
        throw refuse(
          `${place} holds an RSA key of ${modulusLength} bits, not of ${MIN_RSA_BITS} to ${MAX_RSA_BITS}`,
        );
      if (publicExponent < MIN_RSA_EXPONENT)
        throw refuse(`${place} holds an RSA key with the exponent ${publicExponent}, less than 65537`);
      return;
    default:
      throw refuse(`${place} holds a key that is neither EC nor RSA`);
  }
};

/** Readers that go by one and readers that go by the other must believe the same key. */
const mustBeSame = (held: KeyParameters, said: KeyParameters, place: string): void => {
  const [a, b] = [held, said].map((key) => (key.kty === 'EC' ? [key.crv, key.x, key.y] : [key.n, key.e]));
  if (held.kty !== said.kty || a?.join() !== b?.join())
    throw refuse(`${place} names another key than its certificate holds`);
};

const keyOf = (jwk: {
  kty?: string;
  crv?: string;
  x?: string;
  y?: string;
  n?: string;
  e?: string;
}): KeyParameters => {
  const { kty, crv = '', x = '', y = '', n = '', e = '' } = jwk;
  if (kty === 'EC') return { kty, crv, x, y };
  if (kty === 'RSA') return { kty, n, e };
  throw refuse('a key is neither EC nor RSA');
};

/** What chains are verified by. */
export const trustBundleOf = ({
  trustDomain,
  certificates,
}: Pick<SpiffeBundle, 'trustDomain' | 'certificates'>): TrustBundle => ({
  trustDomain,
  certificates: certificates.map(({ der }) => der),
});

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 120);

const refuse = (why: string, cause?: unknown): Vl3Error =>
  new Vl3Error('invalid-argument', `this is no SPIFFE bundle that can be taken: ${why}`, { cause });
