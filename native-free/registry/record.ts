// What a node signs about itself on one network: its WireGuard key, its prefixes and where it can be reached. Peers
// are configured from nothing else. The signature covers a context string, a zero byte and the record's exact bytes;
// it is checked by a function that is passed in, and no byte is parsed before it holds.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { formatPrefix, parseAddress, parsePrefix, prefixContains, prefixesOverlap } from '../ipam/prefix.ts';
import { address, check, MAX_LEASES, name, prefix } from './model.ts';
import { isTrustDomain } from './spiffe-id.ts';

export const RECORD_CONTEXT = 'vl3 node record v1';
export const MAX_RECORD_BYTES = 16_384;
export const MAX_RECORD_ENDPOINTS = 16;
/** Of both families together. */
export const MAX_RECORD_PREFIXES = MAX_LEASES * 2;
/**
 * How far past the present (unix ms) a sequence may be. Sequences are times, or one more than the last; without a bound a
 * single record at the end of the numbers would leave its node's name without a next one for ever.
 */
export const MAX_SEQUENCE_AHEAD_MS = 366 * 24 * 60 * 60 * 1000;
/** ECDSA P-256 as IEEE P1363: r and s, 32 B each. */
export const SIGNATURE_BYTES = 64;
export const MAX_CHAIN_CERTIFICATES = 4;
export const MAX_CERTIFICATE_BYTES = 8192;

const time = z.number().int().min(0).max(8_640_000_000_000_000);

/** Where nothing of another machine can be: such an endpoint would aim peers' datagrams at themselves or at many. */
const UNREACHABLE = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/128',
  '::1/128',
  '::ffff:0:0/96',
  'fe80::/10',
  'ff00::/8',
].map(parsePrefix);

/** Whether an address, in text, can be one that another machine reaches. */
export const isReachable = (text: string): boolean => {
  try {
    const parsed = parseAddress(text);
    return !UNREACHABLE.some((range) => prefixContains(range, parsed));
  } catch {
    return false;
  }
};

const reachableAddress = address.refine(
  isReachable,
  'peers cannot reach this address: announce one that is global or private, not loopback, link-local or multicast',
);

const endpoint = z
  .strictObject({
    address: reachableAddress,
    port: z.number().int().min(1).max(65_535),
    scope: z.enum(['public', 'site']),
    /** With scope "site": the public address that the site shares. */
    site: address.optional(),
  })
  .refine(
    ({ scope, site }) => (scope === 'site') === (site !== undefined),
    'site: give it with scope "site" and only then',
  );
export type RecordEndpoint = z.infer<typeof endpoint>;

/** A prefix the node says is its own, and since when: of two claims to one prefix peers keep the older. */
const claim = z.strictObject({
  prefix: prefix.refine(isCanonical, 'write the prefix in its canonical form'),
  leasedAt: time,
});
export type PrefixClaim = z.infer<typeof claim>;

const schema = z.strictObject({
  trustDomain: z.string().refine(isTrustDomain, 'is not a trust domain'),
  network: name,
  networkUid: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  /**
   * Whose the network is, where it is not of the node's own domain: else a partner that calls a network of its own as ours is
   * called could have our nodes sign for it what holds here.
   */
  home: z.string().refine(isTrustDomain, 'is not a trust domain').optional(),
  node: name,
  /** The node's static WireGuard key on this network: 32 B in base64. */
  publicKey: z
    .string()
    .regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, 'is not a WireGuard public key in base64'),
  /** Disjoint. */
  prefixes: z.array(claim).max(MAX_RECORD_PREFIXES).refine(disjoint, 'two of its prefixes overlap'),
  endpoints: z.array(endpoint).max(MAX_RECORD_ENDPOINTS),
  /** Grows with each record of this node and network; of two records the higher one holds. */
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  /** Milliseconds since the Unix epoch; the record holds in [notBefore, notAfter). */
  notBefore: time,
  notAfter: time,
});
export type NodeRecord = z.infer<typeof schema>;

/** A network, as what is signed for it names it. */
export interface NamedNetwork {
  readonly network: string;
  readonly networkUid: string;
  /** Its trust domain. */
  readonly home: string;
}

type Signed = Omit<NamedNetwork, 'home'> & {
  readonly trustDomain: string;
  readonly home?: string | undefined;
};

/** In the one canonical form a node's own domain is not named again. */
export const writtenHome = ({ trustDomain, home }: Signed): { readonly home?: string } =>
  home === undefined || home === trustDomain ? {} : { home };

/** Whether something was signed for this network, and for no other domain's of the same name and uid. */
export const isSignedFor = (signed: Signed, expected: NamedNetwork): boolean =>
  signed.network === expected.network &&
  signed.networkUid === expected.networkUid &&
  (signed.home ?? signed.trustDomain) === expected.home;

/** As a refusal names it. */
export const signedNetwork = ({ network, networkUid, trustDomain, home = trustDomain }: Signed): string =>
  `network "${network}" (${networkUid}) of ${home}`;

/** Shaped like vl3.v1.SignedRecord. The chain is DER X.509, the node's SVID first. */
export interface SignedRecord {
  readonly record: Uint8Array;
  readonly signature: Uint8Array;
  readonly certificateChain: readonly Uint8Array[];
}

/** Whom a certificate chain names, and until when (unix ms). */
export interface VerifiedSigner {
  readonly trustDomain: string;
  readonly node: string;
  readonly notAfter: number;
  /** By its certificate its prefixes are leased by a signer apart, and nothing else gives it any. */
  readonly isLeased?: boolean;
}

/**
 * Says who signed `input`: undefined unless the chain is good against the trust bundle at `now` (unix ms) and the
 * signature (SIGNATURE_BYTES) is by the key of its leaf. Borrows everything; must not throw.
 */
export type VerifyRecord = (
  certificateChain: readonly Uint8Array[],
  input: Uint8Array,
  signature: Uint8Array,
  now: number,
) => VerifiedSigner | undefined;

/** By whose bundle a node's signatures are verified; undefined: nobody of the domain is believed here. */
export type VerifierOf = (trustDomain: string) => VerifyRecord | undefined;

/** Why, in a sentence. */
export const notFederated = (trustDomain: string): string =>
  `it is of ${trustDomain}, with which the domain of this node is not federated`;

export type RecordRefusal =
  /** A part is larger than any honest one. */
  | 'oversized'
  /** Chain or signature does not hold. */
  | 'unverified'
  /** Signed, but not a record in its one canonical form. */
  | 'malformed'
  /** Signed by another node, or of another domain, than it says. */
  | 'wrong-signer'
  /** Of another network, of another domain's, or of an earlier network of that name. */
  | 'wrong-network'
  | 'not-yet-valid'
  | 'expired'
  /** It would outlive the SVID that signed it. */
  | 'outlives-svid';

export type DecodedRecord =
  | { readonly kind: 'accepted'; readonly record: NodeRecord; readonly isLeased: boolean }
  | { readonly kind: 'refused'; readonly reason: RecordRefusal; readonly message: string };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The sequence of a node's next record: the time (unix ms) or one more than the last, so that it grows also when the state
 * was lost, or the clock was ahead and went back. `used` is this node's own last, `heard` the highest others know of it.
 */
export const nextSequence = (used: number, heard: number, now: number): number => {
  // Nobody has taken one of a clock that was that far ahead.
  const last = Math.max(used > now + MAX_SEQUENCE_AHEAD_MS ? 0 : used, heard);
  return Math.max(last + 1, now);
};

/** The record's one canonical form: JSON with a fixed order of keys. Throws Vl3Error('invalid-argument'). */
export const encodeRecord = (record: NodeRecord): Uint8Array => {
  const bytes = encoder.encode(JSON.stringify(canonical(check(schema, record, 'record'))));
  if (record.notAfter <= record.notBefore) {
    throw new Vl3Error('invalid-argument', 'record.notAfter: must be after notBefore');
  }
  if (bytes.length > MAX_RECORD_BYTES) {
    throw new Vl3Error(
      'invalid-argument',
      `record: it takes ${bytes.length} bytes, more than ${MAX_RECORD_BYTES}`,
    );
  }
  return bytes;
};

/** What a signature covers: the context, a zero byte, the bytes. A signature for one context is void in another. */
export const signingInput = (context: string, bytes: Uint8Array): Uint8Array => {
  const prefixBytes = encoder.encode(context);
  const input = new Uint8Array(prefixBytes.length + 1 + bytes.length);
  input.set(prefixBytes);
  input.set(bytes, prefixBytes.length + 1);
  return input;
};

/**
 * The record, if its signature, signer, network and validity at `now` (unix ms) all hold. `expected` is the network
 * it was announced on. Not checked here, since it takes memory: that its sequence grows. Borrows `signed`; never
 * throws.
 */
export const decodeVerified = (
  signed: SignedRecord,
  verify: VerifyRecord,
  now: number,
  expected: NamedNetwork,
): DecodedRecord => {
  if (isOversized(signed, MAX_RECORD_BYTES))
    return refuse('oversized', 'the record, its signature or its chain is too large');
  const signer = verify(
    signed.certificateChain,
    signingInput(RECORD_CONTEXT, signed.record),
    signed.signature,
    now,
  );
  if (signer === undefined) {
    return refuse('unverified', 'the signature does not verify against the trust bundle at this time');
  }
  const record = parseCanonical(signed.record);
  const who = `node "${signer.node}" of ${signer.trustDomain}`;
  if (record === undefined) return refuse('malformed', `${who} signed what is not a canonical record`);
  if (record.node !== signer.node || record.trustDomain !== signer.trustDomain) {
    return refuse('wrong-signer', `${who} signed a record of node "${record.node}" of ${record.trustDomain}`);
  }
  if (!isSignedFor(record, expected)) {
    return refuse('wrong-network', `${who} signed it for ${signedNetwork(record)}`);
  }
  if (record.sequence > now + MAX_SEQUENCE_AHEAD_MS)
    return refuse('not-yet-valid', `${who}: its sequence ${record.sequence} is of a time far ahead`);
  if (now < record.notBefore) return refuse('not-yet-valid', `${who}: the record is not valid yet`);
  if (now >= record.notAfter) return refuse('expired', `${who}: the record has expired`);
  if (record.notAfter > signer.notAfter) {
    return refuse('outlives-svid', `${who}: the record would outlive the SVID that signed it`);
  }
  return { kind: 'accepted', record, isLeased: signer.isLeased ?? false };
};

function isCanonical(text: string): boolean {
  try {
    return formatPrefix(parsePrefix(text)) === text;
  } catch {
    return false;
  }
}

function disjoint(claims: readonly PrefixClaim[]): boolean {
  try {
    const parsed = claims.map((one) => parsePrefix(one.prefix));
    return parsed.every((a, i) => !parsed.slice(i + 1).some((b) => prefixesOverlap(a, b)));
  } catch {
    return false;
  }
}

const canonical = (record: NodeRecord): NodeRecord => ({
  trustDomain: record.trustDomain,
  network: record.network,
  networkUid: record.networkUid,
  ...writtenHome(record),
  node: record.node,
  publicKey: record.publicKey,
  prefixes: record.prefixes.map((one) => ({ prefix: one.prefix, leasedAt: one.leasedAt })),
  endpoints: record.endpoints.map((one) => ({
    address: one.address,
    port: one.port,
    scope: one.scope,
    ...(one.site !== undefined && { site: one.site }),
  })),
  sequence: record.sequence,
  notBefore: record.notBefore,
  notAfter: record.notAfter,
});

const parseCanonical = (bytes: Uint8Array): NodeRecord | undefined => {
  try {
    const record = schema.parse(JSON.parse(decoder.decode(bytes)));
    const again = encodeRecord(record);
    return again.length === bytes.length && again.every((byte, i) => byte === bytes[i]) ? record : undefined;
  } catch {
    return undefined;
  }
};

/** Of anything that is signed as records are, of at most so many bytes. */
export const isOversized = (
  { record, signature, certificateChain }: SignedRecord,
  mostBytes: number,
): boolean =>
  record.length === 0 ||
  record.length > mostBytes ||
  signature.length !== SIGNATURE_BYTES ||
  certificateChain.length === 0 ||
  certificateChain.length > MAX_CHAIN_CERTIFICATES ||
  certificateChain.some((one) => one.length > MAX_CERTIFICATE_BYTES);

const refuse = (reason: RecordRefusal, message: string): DecodedRecord => ({
  kind: 'refused',
  reason,
  message,
});
