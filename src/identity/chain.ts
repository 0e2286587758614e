// Certificate path validation against a trust bundle (RFC 5280, section 6, and X509-SVID, section 5): who a chain
// names, or why it names nobody. Chains are short and in order, leaf first; the trust bundle's CAs are the anchors.

import { trustDomainOfId } from '../../native-free/federation/endpoint.ts';
import { MAX_CHAIN_CERTIFICATES } from '../../native-free/registry/record.ts';
import { readSpiffeId, type SpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { BACKDATE_MS, type Certificate, isIssuedBy, isValidAt, parseCertificate } from './certificate.ts';

/** The CAs of one trust domain (DER). Bundles of two domains are never merged. */
export interface TrustBundle {
  readonly trustDomain: string;
  readonly certificates: readonly Uint8Array[];
  /** Nodes that were revoked: void is what was issued for them until then (unix ms). */
  readonly revoked?: ReadonlyMap<string, number>;
}

export interface VerifiedLeaf extends VerifiedSvid {
  readonly id: SpiffeId;
}
interface VerifiedSvid {
  readonly kind: 'verified';
  /** Its SPIFFE ID, of the bundle's trust domain. */
  readonly uri: string;
  readonly leaf: Certificate;
  /** Unix ms: all certificates of the path are valid from here to here. */
  readonly notBefore: number;
  readonly notAfter: number;
}
export interface RefusedChain {
  readonly kind: 'refused';
  /** The end of a sentence that starts with "the certificate". */
  readonly message: string;
}

/** `usage` is the OID of the extended key usage that the leaf must have. Never throws. */
export const verifyChain = (
  chain: readonly Uint8Array[],
  bundle: TrustBundle,
  now: number,
  usage: string,
): VerifiedLeaf | RefusedChain => {
  const result = verifySvid(chain, bundle, now, usage);
  if (result.kind === 'refused') return result;
  const id = readSpiffeId(result.uri);
  if (id === undefined) return refuse('carries no SPIFFE ID of vl3');
  const revokedAt = id.kind === 'node' ? bundle.revoked?.get(id.name) : undefined;
  const isVoid = revokedAt !== undefined && result.leaf.notBefore + BACKDATE_MS <= revokedAt;
  return isVoid ? refuse('was revoked') : { ...result, id };
};

/** As `verifyChain`, whatever the path of the SPIFFE ID: for servers of domains that are not run by vl3. */
export const verifySvid = (
  chain: readonly Uint8Array[],
  bundle: TrustBundle,
  now: number,
  usage: string,
): VerifiedSvid | RefusedChain => {
  if (chain.length === 0 || chain.length > MAX_CHAIN_CERTIFICATES) {
    return refuse(`chain must hold 1 to ${MAX_CHAIN_CERTIFICATES} certificates`);
  }
  let certificates: Certificate[];
  let anchors: Certificate[];
  try {
    certificates = chain.map(parseCertificate);
    anchors = bundle.certificates.map(parseCertificate);
  } catch {
    return refuse('or its chain is malformed');
  }
  const [leaf, ...rest] = certificates;
  if (leaf === undefined) return refuse('is missing');
  const uri = leafUri(leaf, bundle.trustDomain, usage);
  if (typeof uri !== 'string') return uri;
  // An anchor may be sent along; it adds nothing, and nothing may come after it.
  const last = rest.at(-1);
  const issuers =
    last !== undefined && anchors.some((anchor) => sameBytes(anchor.der, last.der))
      ? rest.slice(0, -1)
      : rest;
  const top = issuers.at(-1) ?? leaf;
  const anchor = anchors.find((one) => isIssuedBy(top, one) && isValidAt(one, now));
  if (anchor === undefined) return refuse(`is not issued by a CA of ${bundle.trustDomain}`);
  const path = [leaf, ...issuers, anchor];
  for (const [i, certificate] of path.entries()) {
    if (now < certificate.notBefore) return refuse('is not valid yet: are both clocks right?');
    if (now > certificate.notAfter) return refuse('has expired');
    const issuer = path[i + 1];
    if (issuer !== undefined && !isIssuedBy(certificate, issuer)) return refuse('has a broken chain');
    if (i === 0) continue;
    if (certificate.pathLength !== undefined && i - 1 > certificate.pathLength) {
      return refuse('has a chain longer than its CA allows');
    }
    if (certificate.uris.some((uri) => !isOfDomain(uri, bundle.trustDomain))) {
      return refuse('comes by a CA of another trust domain');
    }
  }
  return {
    kind: 'verified',
    uri,
    leaf,
    notBefore: Math.max(...path.map((one) => one.notBefore)),
    notAfter: Math.min(...path.map((one) => one.notAfter)),
  };
};

const leafUri = (leaf: Certificate, trustDomain: string, usage: string): string | RefusedChain => {
  if (leaf.isCa || leaf.canCertify || leaf.canRevoke) return refuse('is a CA, not an SVID');
  if (!leaf.canSign) return refuse('is not for digital signatures');
  if (!leaf.extendedKeyUsages.includes(usage)) return refuse('is not for this use (extended key usage)');
  const [uri, second] = leaf.uris;
  if (uri === undefined || second !== undefined) return refuse('must carry exactly one URI');
  const domain = trustDomainOfId(uri);
  if (domain === undefined) return refuse('carries no SPIFFE ID');
  if (domain !== trustDomain) return refuse(`is of another trust domain than ${trustDomain}`);
  return uri;
};

const isOfDomain = (uri: string, trustDomain: string): boolean => {
  const id = `spiffe://${trustDomain}`;
  return uri === id || uri.startsWith(`${id}/`);
};

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i]);

const refuse = (message: string): RefusedChain => ({ kind: 'refused', message });
