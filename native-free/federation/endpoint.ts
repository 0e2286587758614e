// Where a domain serves its bundle, and how the server is known (SPIFFE Federation, section 5): the parameters that an admin gives
// or an invitation carries, checked. No registry or server says them of itself.

import { Vl3Error } from '../error.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';

export const PROFILES = ['https_web', 'https_spiffe'] as const;

export type BundleEndpoint =
  /** The web's CAs, or those of a file, vouch for the host's name. */
  | { readonly profile: 'https_web'; readonly url: string }
  /** The server shows an SVID of this ID, of the very domain whose bundle it serves. */
  | { readonly profile: 'https_spiffe'; readonly url: string; readonly spiffeId: string };

const MAX_URL = 1024;
const SPIFFE_ID = /^spiffe:\/\/([a-z0-9._-]{1,255})((?:\/[A-Za-z0-9._-]+)+)$/;
const MAX_SPIFFE_ID = 2048;

/** The URL as it is asked for. Throws Vl3Error('invalid-argument'). */
export const parseBundleUrl = (text: string): string => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const hasUser = url !== undefined && (url.username !== '' || url.password !== '');
  if (url?.protocol !== 'https:' || hasUser || url.hash !== '' || text.length > MAX_URL) {
    throw new Vl3Error(
      'invalid-argument',
      `"${printable(text)}" is not where a bundle can be: write it like https://registry.example:8443/bundle.json, without user or fragment`,
    );
  }
  return url.href;
};

/**
 * The trust domain of a workload's SPIFFE ID (SPIFFE-ID, section 2); undefined when it is none. Wider than what vl3 gives
 * out (registry/spiffe-id.ts): a partner's endpoint may be SPIRE's.
 */
export const trustDomainOfId = (text: string): string | undefined => {
  const [, trustDomain, path = ''] = (text.length <= MAX_SPIFFE_ID && SPIFFE_ID.exec(text)) || [];
  const isRelative = path.split('/').some((segment) => segment === '.' || segment === '..');
  return trustDomain !== undefined && isTrustDomain(trustDomain) && !isRelative ? trustDomain : undefined;
};

/** Throws Vl3Error('invalid-argument'). `spiffeId` is for https_spiffe; default: the registry of the domain. */
export const bundleEndpoint = (
  trustDomain: string,
  {
    url,
    profile,
    spiffeId = `spiffe://${trustDomain}/registry`,
  }: { url: string; profile: string; spiffeId?: string },
): BundleEndpoint => {
  const parsed = parseBundleUrl(url);
  if (profile === 'https_web') return { profile, url: parsed };
  if (profile !== 'https_spiffe')
    throw new Vl3Error(
      'invalid-argument',
      `"${printable(profile)}" is not a profile of bundle endpoints: use ${PROFILES.join(' or ')}`,
    );
  if (trustDomainOfId(spiffeId) !== trustDomain)
    throw new Vl3Error(
      'invalid-argument',
      `"${printable(spiffeId)}" is not the SPIFFE ID of a server of ${trustDomain}: write it like spiffe://${trustDomain}/registry`,
    );
  return { profile, url: parsed, spiffeId };
};

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 120);
