// How a node names networks: `red` is its own domain's, `red@home.example` another's. Keys of what a node keeps, and what people
// and annotations write. The home registry itself knows its networks without the domain.

import { z } from 'zod';
import { isName, isTrustDomain } from './spiffe-id.ts';

export interface NetworkKeyParts {
  readonly network: string;
  /** Undefined: the own domain's. */
  readonly domain: string | undefined;
}

/** An '@' is in no name and in no trust domain. */
export const formatNetworkKey = ({ network, domain }: NetworkKeyParts): string =>
  domain === undefined ? network : `${network}@${domain}`;

/** Undefined: it is none. */
export const readNetworkKey = (text: string): NetworkKeyParts | undefined => {
  const at = text.indexOf('@');
  const network = at < 0 ? text : text.slice(0, at);
  const domain = at < 0 ? undefined : text.slice(at + 1);
  if (!isName(network) || (domain !== undefined && !isTrustDomain(domain))) return undefined;
  return { network, domain };
};

/** The one key of what somebody may have written with the own domain. Text that is no key stays as it is. */
export const networkKeyAt = (own: string, text: string): string => {
  const parts = readNetworkKey(text);
  return parts?.domain === own ? parts.network : text;
};

/** The domain whose the network is; undefined: the own. Of a key. */
export const domainOfKey = (key: string): string | undefined => readNetworkKey(key)?.domain;

/** What the home calls it. Of a key. */
export const nameOfKey = (key: string): string => readNetworkKey(key)?.network ?? key;

export const networkKey = z
  .string()
  .max(63 + 1 + 255, 'use at most 63 characters, and 255 for a domain')
  .refine(
    (text) => readNetworkKey(text) !== undefined,
    'use a DNS label (lowercase letters, digits and inner hyphens), or label@domain for the network of another domain',
  );
