// SPIFFE IDs as values: which trust domains are names, and the paths vl3 gives out (node, admin, operator, registry, ca,
// admission). SPIFFE-ID, sections 2.1 to 2.4; narrower where vl3 makes the names itself. Not here: certificates.

import { Vl3Error } from '../error.ts';

export type SpiffeId =
  /** An operator looks, and changes nothing. */
  | { readonly kind: 'node' | 'admin' | 'operator'; readonly trustDomain: string; readonly name: string }
  /** The registry's server, that of a signer apart, and whoever signs what a domain grants. */
  | { readonly kind: 'registry' | 'ca' | 'admission'; readonly trustDomain: string };

const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;
const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const ID =
  /^spiffe:\/\/([a-z0-9._-]{1,255})\/(?:(node|admin|operator)\/([a-z0-9-]{1,63})|(registry|ca|admission))$/;

export const isTrustDomain = (text: string): boolean => TRUST_DOMAIN.test(text);

/** True for a DNS label: what nodes, admins and networks are called. */
export const isName = (text: string): boolean => NAME.test(text);

/** Returns the trust domain's name. Throws Vl3Error('invalid-argument'). */
export const parseTrustDomain = (text: string): string => {
  if (isTrustDomain(text)) return text;
  throw new Vl3Error(
    'invalid-argument',
    `"${shorten(text)}" is not a trust domain: use at most 255 lowercase letters, digits, dots, hyphens and underscores, like aws-prod.example`,
  );
};

/** Returns the name. `what` is "node" or the like. Throws Vl3Error('invalid-argument'). */
export const parseName = (what: string, text: string): string => {
  if (isName(text)) return text;
  throw new Vl3Error(
    'invalid-argument',
    `"${shorten(text)}" is no good as ${what} name: use a DNS label (lowercase letters, digits and inner hyphens, at most 63)`,
  );
};

export const formatSpiffeId = (id: SpiffeId): string =>
  'name' in id ? `spiffe://${id.trustDomain}/${id.kind}/${id.name}` : `spiffe://${id.trustDomain}/${id.kind}`;

/** The ID, or undefined when the text is no SPIFFE ID that vl3 gives out. Never throws. */
export const readSpiffeId = (text: string): SpiffeId | undefined => {
  const [, trustDomain, kind, name, service] = ID.exec(text) ?? [];
  if (trustDomain === undefined) return undefined;
  if (service === 'registry' || service === 'ca' || service === 'admission')
    return { kind: service, trustDomain };
  if (name === undefined || !isName(name)) return undefined;
  if (kind !== 'node' && kind !== 'admin' && kind !== 'operator') return undefined;
  return { kind, trustDomain, name };
};

/** Quotes hostile text safely: printable and short. */
const shorten = (text: string): string => {
  const printable = text.replace(/[^\x20-\x7e]/g, '?');
  return printable.length > 80 ? `${printable.slice(0, 80)}...` : printable;
};
