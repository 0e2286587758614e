// What a domain says of itself, verified by whoever holds its bundle: the bundle that follows from it, and who was revoked.
// See native-free/ca/statement.ts for the document.

import {
  AUTHORITIES_CONTEXT,
  type DomainStatement,
  decodeVerifiedStatement,
} from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { fromBase64 } from '../base64.ts';
import { parseCertificate } from './certificate.ts';
import type { TrustBundle } from './chain.ts';
import { createGrantVerifier } from './grant-signer.ts';

/** Throws Vl3Error('unauthenticated') unless the domain's admission identity, under the bundle that is held, signed it. */
export const verifyStatement = (signed: SignedRecord, bundle: TrustBundle, now: number): DomainStatement => {
  const { trustDomain } = bundle;
  const decoded = decodeVerifiedStatement(signed, createGrantVerifier(bundle), trustDomain, now);
  if (decoded.kind === 'refused') throw refuse(trustDomain, decoded.message);
  for (const authority of decoded.statement.authorities) mustBeAuthority(fromBase64(authority), trustDomain);
  return decoded.statement;
};

/** As verifyStatement, of what a domain says to partners, who know it by other means the first time. */
export const verifyAuthorities = (
  signed: SignedRecord,
  bundle: TrustBundle,
  now: number,
): DomainStatement => {
  const { trustDomain } = bundle;
  const verify = createGrantVerifier(bundle);
  const decoded = decodeVerifiedStatement(signed, verify, trustDomain, now, AUTHORITIES_CONTEXT);
  if (decoded.kind === 'refused') throw refuse(trustDomain, decoded.message);
  for (const authority of decoded.statement.authorities)
    mustBeAuthority(fromBase64(authority), trustDomain, [undefined, `spiffe://${trustDomain}/`]);
  return decoded.statement;
};

export const bundleOfStatement = ({
  trustDomain,
  authorities,
}: Pick<DomainStatement, 'trustDomain' | 'authorities'>): TrustBundle => ({
  trustDomain,
  certificates: authorities.map(fromBase64),
});

/** Who was revoked, and until when what was issued for them is void. */
type Revocations = ReadonlyMap<string, number>;

export const revocationsOf = ({ revoked }: Pick<DomainStatement, 'revoked'>): Revocations =>
  new Map(revoked.map(({ node, until }) => [node, until]));

/** `uris`: what it may be called, beside the domain's own name. Those of other issuers need have none. */
const mustBeAuthority = (
  der: Uint8Array,
  trustDomain: string,
  uris: readonly (string | undefined)[] = [],
): void => {
  try {
    const { isCa, canCertify, uris: named } = parseCertificate(der);
    const [uri, second] = named;
    const isOurs = uri === `spiffe://${trustDomain}` || uris.includes(uri);
    if (isCa && canCertify && second === undefined && isOurs) return;
  } catch {
    // Said below.
  }
  throw refuse(trustDomain, 'it names as a CA what is none of this domain');
};

const refuse = (trustDomain: string, why: string): Vl3Error =>
  new Vl3Error('unauthenticated', `what is said to be a statement of ${trustDomain} is not taken: ${why}`);
