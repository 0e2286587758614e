// Whether a partner's next bundle is that domain's own word. Its server is the partner's registry, which may have been taken
// over while its signer is apart: a bundle that bore the domain's signature is followed only by one that bears it, by a CA
// that is known already.

import { readStatement } from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { SpiffeBundle } from '../../native-free/federation/bundle-rules.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { toBase64 } from '../base64.ts';
import { verifyAuthorities } from '../identity/domain-statement.ts';
import { trustBundleOf } from '../identity/spiffe-bundle.ts';

const sequenceOf = ({ signed }: SpiffeBundle): number =>
  signed === undefined ? 0 : (readStatement(signed.record)?.sequence ?? 0);

/** What is known of the domain already. */
export interface Known {
  /** Undefined: it is the first one. */
  readonly held?: SpiffeBundle | undefined;
  /** By which CAs it has to be signed, where there is none before that was: DER. Default: those that it names itself. */
  readonly pinned?: readonly Uint8Array[] | undefined;
}

/** Why `offered` is not taken; undefined: it is. */
export const successionProblem = (
  { held, pinned }: Known,
  offered: SpiffeBundle,
  now: number,
): string | undefined => {
  const { trustDomain, signed } = offered;
  if (signed === undefined)
    return held?.signed === undefined
      ? undefined
      : `it lacks the signature of ${trustDomain} that the one before had`;
  const own = held?.signed === undefined ? offered : held;
  const certificates = pinned ?? trustBundleOf(own).certificates;
  try {
    const { authorities } = verifyAuthorities(signed, { trustDomain, certificates }, now);
    const named = offered.certificates.map(({ der }) => toBase64(der));
    if ([...authorities].sort().join() !== named.sort().join())
      return `it names other CAs than ${trustDomain} signed`;
  } catch (error) {
    if (error instanceof Vl3Error) return error.message;
    throw error;
  }
  return held !== undefined && sequenceOf(offered) < sequenceOf(held)
    ? `what ${trustDomain} signed in it is older than what was seen already`
    : undefined;
};

/** What a signer apart believes a domain by. Throws Vl3Error('failed-precondition') where it is missing. */
export const mustBeSigned = ({ trustDomain, signed }: SpiffeBundle): SignedRecord => {
  if (signed !== undefined) return signed;
  throw new Vl3Error(
    'failed-precondition',
    `the bundle of ${trustDomain} does not bear that domain's signature, without which a signer apart believes nothing of it: its registry is of an earlier version of vl3, or of other software`,
  );
};
