// Verifies what nodes of several domains signed: each by the bundle of the trust domain that its leaf names, and by no other.

import { trustDomainOfId } from '../../native-free/federation/endpoint.ts';
import type { VerifyRecord } from '../../native-free/registry/record.ts';
import { parseCertificate } from '../identity/certificate.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { createRecordVerifier } from '../identity/record-signer.ts';

/** The trust domain that a certificate (DER) names; undefined: none, or several. Never throws. Says nothing of who signed it. */
export const trustDomainOf = (certificate: Uint8Array): string | undefined => {
  try {
    const [uri, second] = parseCertificate(certificate).uris;
    return uri === undefined || second !== undefined ? undefined : trustDomainOfId(uri);
  } catch {
    return undefined;
  }
};

/** More than one has partners; a bundle that changes takes the place of the one before. */
const MAX_VERIFIERS = 512;

/**
 * `bundleFor` answers what counts of a domain's bundle now, the same object for as long as that is the same; undefined: the
 * domain is nobody's partner. Keep it: it remembers the chains that held.
 */
export const verifierByDomain = (bundleFor: (domain: string) => TrustBundle | undefined): VerifyRecord => {
  const verifiers = new Map<string, { readonly bundle: TrustBundle; readonly verify: VerifyRecord }>();
  return (chain, input, signature, now) => {
    const [leaf] = chain;
    const domain = leaf === undefined ? undefined : trustDomainOf(leaf);
    const bundle = domain === undefined ? undefined : bundleFor(domain);
    if (domain === undefined || bundle === undefined) return undefined;
    let known = verifiers.get(domain);
    if (known?.bundle !== bundle) {
      if (verifiers.size >= MAX_VERIFIERS) verifiers.clear();
      known = { bundle, verify: createRecordVerifier(bundle) };
      verifiers.set(domain, known);
    }
    return known.verify(chain, input, signature, now);
  };
};
