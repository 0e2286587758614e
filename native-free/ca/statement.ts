// What a domain says of itself to its own nodes: which CAs speak for it, which of them signs at present, which nodes were
// revoked, and, where the signer is apart, which CAs speak for its partners. Signed by the domain's admission identity, in
// one canonical form, under a sequence that grows: whoever has heard one never goes back behind it. A registry without that
// identity can keep the latest from a node, and cannot change it. What it says to partners, by a context of its own, is its
// CAs alone.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { check, name } from '../registry/model.ts';
import { isOversized, type SignedRecord, signingInput } from '../registry/record.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';

export const STATEMENT_CONTEXT = 'vl3 domain statement v1';
/** Of what partners hear: nobody else's business is in it. */
export const AUTHORITIES_CONTEXT = 'vl3 domain authorities v1';
/** The signing one, the next, and those that signed before; of issuers other than vl3, those of each of their servers. */
export const MAX_AUTHORITIES = 16;
/** One is dropped once all that it had signed by then has ended. */
export const MAX_REVOKED = 4096;
const MAX_PARTNERS = 256;
const MAX_STATEMENT_BYTES = 1_572_864;

const time = z.number().int().min(0).max(8_640_000_000_000_000);

const trustDomain = z.string().refine(isTrustDomain, 'is not a trust domain');
/** DER in base64. */
const authorities = z.array(z.base64().min(1).max(12_288)).min(1).max(MAX_AUTHORITIES);

const vouched = z.strictObject({
  trustDomain,
  authorities,
  /** From when on they count no more, unless they are confirmed until then (unix ms). */
  until: time,
});
/** A partner whose CAs the domain's signer knows. */
export type VouchedPartner = z.infer<typeof vouched>;

const schema = z.strictObject({
  trustDomain,
  /** The one that signs, then the others. */
  authorities,
  /** Void is what was issued for the node until then (unix ms). By name, ascending, none twice. */
  revoked: z.array(z.strictObject({ node: name, until: time })).max(MAX_REVOKED),
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  /** By trust domain, ascending, none twice. Absent: none, which earlier versions can read. */
  partners: z.array(vouched).min(1).max(MAX_PARTNERS).optional(),
});
export type DomainStatement = z.infer<typeof schema>;

/** Says that `input` was signed by the admission identity of a trust domain. */
export type VerifyStatement = (
  certificateChain: readonly Uint8Array[],
  input: Uint8Array,
  signature: Uint8Array,
  now: number,
) => { readonly trustDomain: string } | undefined;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const canonical = ({ trustDomain, authorities, revoked, sequence, partners }: DomainStatement): string =>
  JSON.stringify({
    trustDomain,
    authorities,
    revoked: revoked.map(({ node, until }) => ({ node, until })),
    sequence,
    ...(partners !== undefined && {
      partners: partners.map((one) => ({
        trustDomain: one.trustDomain,
        authorities: one.authorities,
        until: one.until,
      })),
    }),
  });

const isAscending = (texts: readonly string[]): boolean =>
  texts.every((text, i) => i === 0 || (texts[i - 1] ?? '') < text);

const areAscending = ({ revoked, partners = [] }: DomainStatement): boolean =>
  isAscending(revoked.map(({ node }) => node)) && isAscending(partners.map((partner) => partner.trustDomain));

/** The one canonical form. Throws Vl3Error('invalid-argument'). */
export const encodeStatement = (statement: DomainStatement): Uint8Array => {
  const checked = check(schema, statement, 'statement');
  if (!areAscending(checked)) throw new Vl3Error('invalid-argument', 'statement: not in order');
  const bytes = encoder.encode(canonical(checked));
  if (bytes.length > MAX_STATEMENT_BYTES)
    throw new Vl3Error('resource-exhausted', `statement: it is longer than ${MAX_STATEMENT_BYTES} bytes`);
  return bytes;
};

/** Not verified. Undefined: it is none. */
export const readStatement = (bytes: Uint8Array): DomainStatement | undefined => {
  try {
    const text = decoder.decode(bytes);
    const statement = schema.parse(JSON.parse(text));
    return canonical(statement) === text && areAscending(statement) ? statement : undefined;
  } catch {
    return undefined;
  }
};

export type DecodedStatement =
  | { readonly kind: 'accepted'; readonly statement: DomainStatement }
  | { readonly kind: 'refused'; readonly message: string };

/**
 * The statement, if signature, signer and form hold under this context. Its sequence is the caller's to compare. Borrows;
 * never throws.
 */
export const decodeVerifiedStatement = (
  signed: SignedRecord,
  verify: VerifyStatement,
  trustDomain: string,
  now: number,
  context = STATEMENT_CONTEXT,
): DecodedStatement => {
  const { record: bytes, signature, certificateChain } = signed;
  if (isOversized(signed, MAX_STATEMENT_BYTES)) return refuse('it, its signature or its chain is too large');
  const signer = verify(certificateChain, signingInput(context, bytes), signature, now);
  if (signer?.trustDomain !== trustDomain)
    return refuse('its signature does not verify against the trust bundle at this time');
  const statement = readStatement(bytes);
  if (statement === undefined || statement.trustDomain !== trustDomain)
    return refuse('what was signed is no statement of this domain');
  return { kind: 'accepted', statement };
};

const refuse = (message: string): DecodedStatement => ({ kind: 'refused', message });
