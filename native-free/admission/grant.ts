// What a home domain grants a node on one network: the whole of what that holds, or the addresses of the attachments that
// were admitted. Peers let a node have nothing beyond it, whatever that node does. Signed as records are (registry/record.ts),
// under a context of its own, by the domain's admission identity, in one canonical form. A node of another domain is never
// granted the whole. Of a domain whose signer stands apart from its registry a grant is the node's lease as well: it names the
// prefixes that the node may hold at all.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { formatAddress, formatPrefix, parseAddress, parsePrefix } from '../ipam/prefix.ts';
import { MAX_GRANT_BYTES } from '../registry/admission-model.ts';
import { check, MAX_LEASES, name } from '../registry/model.ts';
import { isOversized, MAX_SEQUENCE_AHEAD_MS, type SignedRecord, signingInput } from '../registry/record.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';

export const GRANT_CONTEXT = 'vl3 admission grant v1';
/** Each is one more allowed IP at every peer. */
export const MAX_GRANTED_ADDRESSES = 4096;

const time = z.number().int().min(0).max(8_640_000_000_000_000);

const schema = z.strictObject({
  /** The network's home domain, which grants. */
  trustDomain: z.string().refine(isTrustDomain, 'is not a trust domain'),
  network: name,
  networkUid: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  /** To whom: a node of this domain. */
  nodeDomain: z.string().refine(isTrustDomain, 'is not a trust domain'),
  node: name,
  /** All that its record says, or `addresses` alone. */
  isWhole: z.boolean(),
  /** Ascending, none twice. */
  addresses: z.array(z.string().max(39)).max(MAX_GRANTED_ADDRESSES),
  /** What the node leases, ascending, none twice: nothing outside of it is granted. Absent: the registry's leases hold alone. */
  prefixes: z
    .array(z.string().max(43))
    .max(MAX_LEASES * 2)
    .optional(),
  /** The store by which it was decided: after a restore all is granted anew. */
  storeId: z.string().min(1).max(64),
  /** Grows with each of this network and node; of two the higher one holds. */
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  /** Milliseconds since the Unix epoch: it holds in [notBefore, notAfter). */
  notBefore: time,
  notAfter: time,
});
export type Grant = z.infer<typeof schema>;

/** Says that `input` was signed by the admission identity of a trust domain, as VerifyRecord does of a node. */
export type VerifyGrant = (
  certificateChain: readonly Uint8Array[],
  input: Uint8Array,
  signature: Uint8Array,
  now: number,
) => { readonly trustDomain: string; readonly notAfter: number } | undefined;

export type DecodedGrant =
  | { readonly kind: 'accepted'; readonly grant: Grant }
  | { readonly kind: 'refused'; readonly message: string };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export const ascending = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

/** The one canonical form: JSON with a fixed order of keys. Throws Vl3Error('invalid-argument'). */
export const encodeGrant = (grant: Grant): Uint8Array => {
  const bytes = encoder.encode(canonical(check(schema, grant, 'grant')));
  if (bytes.length > MAX_GRANT_BYTES)
    throw new Vl3Error(
      'invalid-argument',
      `grant: it takes ${bytes.length} bytes, more than ${MAX_GRANT_BYTES}`,
    );
  return bytes;
};

const canonical = (grant: Grant): string =>
  JSON.stringify({
    trustDomain: grant.trustDomain,
    network: grant.network,
    networkUid: grant.networkUid,
    nodeDomain: grant.nodeDomain,
    node: grant.node,
    isWhole: grant.isWhole,
    addresses: grant.addresses,
    ...(grant.prefixes !== undefined && { prefixes: grant.prefixes }),
    storeId: grant.storeId,
    sequence: grant.sequence,
    notBefore: grant.notBefore,
    notAfter: grant.notAfter,
  });

/** What a registry stored under its own hand: not verified. Undefined: it is no grant. */
export const readGrant = (bytes: Uint8Array): Grant | undefined => {
  try {
    const text = decoder.decode(bytes);
    const grant = schema.parse(JSON.parse(text));
    if (canonical(grant) !== text || (grant.isWhole && grant.addresses.length > 0)) return undefined;
    const areAddresses = areOrdered(grant.addresses, (text) => formatAddress(parseAddress(text)));
    const arePrefixes = areOrdered(grant.prefixes ?? [], (text) => formatPrefix(parsePrefix(text)));
    return areAddresses && arePrefixes ? grant : undefined;
  } catch {
    return undefined;
  }
};

const areOrdered = (texts: readonly string[], canonicalOf: (text: string) => string): boolean =>
  texts.every((text, i) => ascending(texts[i - 1] ?? '', text) < 0 && canonicalOf(text) === text);

/** The grant, if signature, signer, network, node and validity at `now` (unix ms) all hold. Borrows `signed`; never throws. */
export const decodeVerifiedGrant = (
  signed: SignedRecord,
  verify: VerifyGrant,
  now: number,
  expected: {
    readonly network: string;
    readonly networkUid: string;
    readonly node: string;
    readonly nodeDomain?: string;
  },
): DecodedGrant => {
  if (isOversized(signed, MAX_GRANT_BYTES))
    return refuse('the grant, its signature or its chain is too large');
  const { record: bytes, signature, certificateChain } = signed;
  const signer = verify(certificateChain, signingInput(GRANT_CONTEXT, bytes), signature, now);
  if (signer === undefined)
    return refuse('the signature does not verify against the trust bundle at this time');
  const grant = readGrant(bytes);
  if (grant === undefined) return refuse(`${signer.trustDomain} signed what is not a canonical grant`);
  const { trustDomain, nodeDomain } = grant;
  if (trustDomain !== signer.trustDomain)
    return refuse(`${signer.trustDomain} signed a grant of ${trustDomain}`);
  if (nodeDomain !== (expected.nodeDomain ?? trustDomain) || grant.node !== expected.node)
    return refuse(`it is for node "${grant.node}" of ${nodeDomain}`);
  if (grant.network !== expected.network || grant.networkUid !== expected.networkUid)
    return refuse(`it is for network "${grant.network}" (${grant.networkUid})`);
  if (grant.isWhole && nodeDomain !== trustDomain)
    return refuse('a node of another domain is never granted the whole');
  if (grant.sequence > now + MAX_SEQUENCE_AHEAD_MS) return refuse('its sequence is of a time far ahead');
  if (now < grant.notBefore || now >= grant.notAfter) return refuse('it is not valid at this time');
  if (grant.notAfter > signer.notAfter) return refuse('it would outlive the certificate that signed it');
  return { kind: 'accepted', grant };
};

const refuse = (message: string): DecodedGrant => ({ kind: 'refused', message });
