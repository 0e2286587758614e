// The CAs between a client's SVID and its domain's own, as a header of each call. TLS carries them, too, but Node 24.21 to
// 26.8 forget them once they have verified the client (nodejs/node#65579), and by which domain's CA it was verified only they
// can tell.

import { MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES } from '../../native-free/registry/record.ts';
import { fromBase64, toBase64 } from '../base64.ts';

export const INTERMEDIATES_HEADER = 'vl3-intermediates';
const MAX_LENGTH = Math.ceil((MAX_CERTIFICATE_BYTES * MAX_CHAIN_CERTIFICATES * 4) / 3);

/** Undefined where there are none. `chain`: the leaf first. */
export const formatIntermediates = ([, ...others]: readonly Uint8Array[]): string | undefined =>
  others.length === 0 ? undefined : others.map(toBase64).join(',');

/** What is no such header is none. Never throws; what is in it, nobody has looked at. */
export const readIntermediates = (header: string | readonly string[] | undefined): Uint8Array[] => {
  if (typeof header !== 'string' || header.length > MAX_LENGTH) return [];
  const parts = header.split(',');
  if (parts.length >= MAX_CHAIN_CERTIFICATES || !parts.every((one) => /^[A-Za-z0-9+/]+={0,2}$/.test(one)))
    return [];
  return parts.map(fromBase64);
};
