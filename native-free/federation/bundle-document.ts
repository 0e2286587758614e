// A SPIFFE bundle as the document that bundle endpoints serve (SPIFFE Trust Domain and Bundle, section 4; X509-SVID, section
// 6; JWT-SVID, section 6): a JWK Set with a sequence number and a refresh hint. What the standard says is ignored is ignored;
// all else that is wrong refuses the document whole, since half a bundle is another bundle. Not here: whether the
// certificates are good (src/identity/spiffe-bundle.ts), and which bundle replaces which (bundle-rules.ts).

import { fromBase64, toBase64 } from '../base64.ts';
import { Vl3Error } from '../error.ts';
import type { SignedRecord } from '../registry/record.ts';
import { isJsonObject, type Json, type JsonObject, MalformedJson, parseStrictJson } from './strict-json.ts';

/** Of the document; characters and bytes are the same but for what is refused. */
export const MAX_BUNDLE_BYTES = 128 * 1024;
/** Of all uses, known or not. */
export const MAX_BUNDLE_KEYS = 64;
/** A domain has one CA, and two while it rotates; SPIRE may have some more. */
export const MAX_BUNDLE_CERTIFICATES = 16;
const MAX_CERTIFICATE_BYTES = 8192;
const MAX_SEQUENCE = 2n ** 64n - 1n;
/** Seconds; ten years. Anything longer says nothing. */
const MAX_REFRESH_HINT = 315_360_000n;

/** What the document says of the key that the certificate holds. */
export type KeyParameters =
  | { readonly kty: 'EC'; readonly crv: string; readonly x: string; readonly y: string }
  | { readonly kty: 'RSA'; readonly n: string; readonly e: string };

export interface X509Entry {
  /** "keys[3]". */
  readonly place: string;
  /** DER, unread. */
  readonly der: Uint8Array;
  readonly key: KeyParameters;
}

export interface BundleDocument {
  readonly x509: readonly X509Entry[];
  /** The ids of the keys for JWT-SVIDs, which vl3 has no use for. */
  readonly jwtKeyIds: readonly string[];
  /** Entries that the standard says are to be ignored. */
  readonly ignored: number;
  readonly sequence: bigint | undefined;
  /** Seconds. */
  readonly refreshHint: number | undefined;
  /** vl3's own: the domain's word on its CAs (native-free/ca/statement.ts), unread. Others ignore it. */
  readonly signed: SignedRecord | undefined;
}

const SIGNED = 'vl3_authorities';
const MAX_CHAIN = 8;

/** Members that hold what only a domain itself may know. */
const SECRETS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const BASE64_URL = /^[A-Za-z0-9_-]{1,2048}$/;

/** Throws Vl3Error('invalid-argument') that names the place. */
export const readBundleDocument = (text: string): BundleDocument => {
  if (text.length > MAX_BUNDLE_BYTES) throw refuse(`it is longer than ${MAX_BUNDLE_BYTES} bytes`);
  const document = parsed(text);
  if (!isJsonObject(document)) throw refuse('it is not an object');
  const keys = document['keys'];
  if (!isArray(keys)) throw refuse('it has no array "keys"');
  if (keys.length > MAX_BUNDLE_KEYS) throw refuse(`it has more than ${MAX_BUNDLE_KEYS} keys`);
  const x509: X509Entry[] = [];
  const jwtKeyIds: string[] = [];
  let ignored = 0;
  for (const [i, key] of keys.entries()) {
    const entry = readKey(key, `keys[${i}]`);
    if (entry === undefined) ignored += 1;
    else if (typeof entry === 'string') jwtKeyIds.push(entry);
    else x509.push(entry);
  }
  if (x509.length > MAX_BUNDLE_CERTIFICATES)
    throw refuse(`it has more than ${MAX_BUNDLE_CERTIFICATES} certificates`);
  if (new Set(jwtKeyIds).size < jwtKeyIds.length)
    throw refuse('two of its jwt-svid keys have the same "kid"');
  return {
    x509,
    jwtKeyIds,
    ignored,
    sequence: integer(document, 'spiffe_sequence', MAX_SEQUENCE),
    refreshHint: seconds(integer(document, 'spiffe_refresh_hint', MAX_REFRESH_HINT)),
    signed: readSigned(document[SIGNED]),
  };
};

const readSigned = (value: Json | undefined): SignedRecord | undefined => {
  if (value === undefined) return undefined;
  const bytes = (one: Json | undefined): Uint8Array => {
    if (typeof one !== 'string' || !BASE64.test(one)) throw refuse(`"${SIGNED}" is not what was signed`);
    return fromBase64(one);
  };
  if (!isJsonObject(value)) throw refuse(`"${SIGNED}" is not an object`);
  const chain = value['certificate_chain'];
  if (!isArray(chain) || chain.length > MAX_CHAIN) throw refuse(`"${SIGNED}" has no chain`);
  return {
    record: bytes(value['record']),
    signature: bytes(value['signature']),
    certificateChain: chain.map(bytes),
  };
};

export interface BundleParts {
  readonly entries: readonly Pick<X509Entry, 'der' | 'key'>[];
  readonly sequence: bigint;
  /** Seconds. */
  readonly refreshHint: number;
  readonly signed?: SignedRecord | undefined;
}

/** The same text for the same parts, in whichever order the certificates come. */
export const formatBundleDocument = ({ entries, sequence, refreshHint, signed }: BundleParts): string => {
  const keys = entries
    .map(({ der, key }) => ({ use: 'x509-svid', ...orderedKey(key), x5c: [toBase64(der)] }))
    .map((entry) => JSON.stringify(entry, null, 2))
    .sort();
  // By hand: a sequence may be past what JSON.stringify can write.
  const indented = keys.map((key) => key.replace(/^/gm, '    ')).join(',\n');
  const list = keys.length === 0 ? '[]' : `[\n${indented}\n  ]`;
  return `{\n  "spiffe_sequence": ${sequence},\n  "spiffe_refresh_hint": ${refreshHint},\n${formatSigned(signed)}  "keys": ${list}\n}\n`;
};

const formatSigned = (signed: SignedRecord | undefined): string => {
  if (signed === undefined) return '';
  const { record, signature, certificateChain } = signed;
  const member = {
    record: toBase64(record),
    signature: toBase64(signature),
    certificate_chain: certificateChain.map(toBase64),
  };
  return `  "${SIGNED}": ${JSON.stringify(member)},\n`;
};

const orderedKey = (key: KeyParameters): KeyParameters =>
  key.kty === 'EC'
    ? { kty: key.kty, crv: key.crv, x: key.x, y: key.y }
    : { kty: key.kty, n: key.n, e: key.e };

const parsed = (text: string): Json => {
  try {
    return parseStrictJson(text);
  } catch (error) {
    if (error instanceof MalformedJson) throw refuse(error.message);
    throw error;
  }
};

/** A certificate, the id of a key for JWT-SVIDs, or undefined: to be ignored. */
const readKey = (entry: Json, place: string): X509Entry | string | undefined => {
  if (!isJsonObject(entry)) throw refuse(`${place} is not an object`);
  const secret = SECRETS.find((name) => entry[name] !== undefined);
  if (secret !== undefined) {
    throw refuse(
      `${place} holds a private key or a secret ("${secret}"): whoever serves it has published it, and has to make another`,
    );
  }
  const { kty, use } = entry;
  if (typeof kty !== 'string') throw refuse(`${place} has no "kty"`);
  // Unknown uses and types are for readers that are newer than this one.
  if (use !== 'x509-svid' && use !== 'jwt-svid') return undefined;
  if (kty !== 'EC' && kty !== 'RSA') return undefined;
  if (use === 'jwt-svid') return keyId(entry, place);
  const x5c = entry['x5c'];
  if (x5c === undefined || (isArray(x5c) && x5c.length === 0)) return undefined;
  if (!isArray(x5c)) throw refuse(`${place}.x5c is not an array`);
  // All but the first are to be ignored (X509-SVID, section 6.2).
  const [certificate] = x5c;
  if (typeof certificate !== 'string' || !BASE64.test(certificate))
    throw refuse(`${place}.x5c[0] is not base64`);
  if (certificate.length > Math.ceil(MAX_CERTIFICATE_BYTES / 3) * 4)
    throw refuse(`${place}.x5c[0] is longer than a certificate`);
  return { place, der: fromBase64(certificate), key: keyParameters(entry, kty, place) };
};

/** One without an id is to be ignored (JWT-SVID, section 6.2). */
const keyId = (entry: JsonObject, place: string): string | undefined => {
  const { kid } = entry;
  if (kid === undefined || kid === '') return undefined;
  if (typeof kid !== 'string' || kid.length > 256) throw refuse(`${place}.kid is not a short text`);
  return kid;
};

const keyParameters = (entry: JsonObject, kty: KeyParameters['kty'], place: string): KeyParameters => {
  const number = (name: string): string => {
    const value = entry[name];
    if (typeof value !== 'string' || !BASE64_URL.test(value))
      throw refuse(`${place}.${name} is not a number in base64url`);
    return value;
  };
  if (kty === 'RSA') return { kty, n: number('n'), e: number('e') };
  const { crv } = entry;
  if (typeof crv !== 'string' || crv.length > 16) throw refuse(`${place}.crv is not a curve`);
  return { kty, crv, x: number('x'), y: number('y') };
};

const integer = (document: JsonObject, name: string, most: bigint): bigint | undefined => {
  const value = document[name];
  if (value === undefined) return undefined;
  if (typeof value !== 'bigint' || value < 0n || value > most)
    throw refuse(`"${name}" is not a whole number from 0 to ${most}`);
  return value;
};

const seconds = (value: bigint | undefined): number | undefined =>
  value === undefined ? undefined : Number(value);

const isArray = (value: Json | undefined): value is readonly Json[] => Array.isArray(value);

const refuse = (why: string): Vl3Error =>
  new Vl3Error('invalid-argument', `this is no SPIFFE bundle that can be taken: ${why}`);
