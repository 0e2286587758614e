// An SVID that somebody else issued, as a source gives it: key, chain and the CAs of its trust domain, checked as a whole before
// anything uses a part of it. Not here: where it comes from (svid-files.ts, workload-api.ts).

import type { KeyObject } from 'node:crypto';
import { MAX_AUTHORITIES } from '../../native-free/ca/statement.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { trustDomainOfId } from '../../native-free/federation/endpoint.ts';
import { formatSpiffeId, type SpiffeId } from '../../native-free/registry/spiffe-id.ts';
import { CLIENT_AUTH, parseCertificate, SERVER_AUTH } from './certificate.ts';
import { type TrustBundle, verifyChain } from './chain.ts';
import { isP256 } from './key.ts';
import type { Credential } from './tls.ts';

/** What a source offers, unread but for its form. */
export interface OfferedSvid {
  readonly certificateChain: readonly Uint8Array[];
  readonly privateKey: KeyObject;
  /** The CAs of its trust domain, DER. */
  readonly authorities: readonly Uint8Array[];
}

/** All that a source offers at one time. */
export interface Offer {
  readonly svids: readonly OfferedSvid[];
  /** Of the trust domains that the operator federates with; never merged with its own. */
  readonly federated: readonly TrustBundle[];
}

/** Who an SVID must be of. */
export interface Wanted {
  readonly kind: SpiffeId['kind'];
  /** Of a node or an admin; undefined: any. */
  readonly name?: string | undefined;
  /** Undefined: any. */
  readonly trustDomain?: string | undefined;
}

/** One that holds. */
export interface Svid extends Credential {
  readonly id: SpiffeId;
  readonly trustBundle: TrustBundle;
  /** Of the whole path, unix ms. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/**
 * The one SVID of the offer that is wanted, once its key, chain and CAs are found to belong together at `now` (unix ms).
 * Throws Vl3Error('failed-precondition') with a sentence about what is offered instead.
 */
export const chooseSvid = (offer: Offer, wanted: Wanted, now: number): Svid => {
  const candidates = offer.svids.map((offered): Candidate => ({ offered, uri: uriOf(offered) }));
  const fitting = candidates.filter(({ uri }) => fits(uri, wanted));
  // Of entries that name the same identity SPIRE gives one SVID each: they are as good as each other, and the one that lasts
  // longest does.
  const isOne = new Set(fitting.map(({ uri }) => uri)).size <= 1;
  const [only, second] = isOne ? fitting.toSorted(byEnd) : fitting;
  if (only === undefined) {
    const others = candidates.map(({ uri }) => printable(uri));
    throw refuse(
      others.length === 0
        ? `there is no SVID at all: have ${describe(wanted)} issued to this program`
        : `there is ${others.slice(0, 4).join(', ')}, but not ${describe(wanted)}: have that issued to this program`,
    );
  }
  if (second !== undefined && !isOne) {
    const several = fitting.slice(0, 4).map(({ uri }) => printable(uri));
    throw refuse(
      `there are several that would do (${several.join(', ')}): have one issued to this program, or name it (--name)`,
    );
  }
  return checked(only.offered, only.uri, wanted.kind, now);
};

const checked = (
  { certificateChain, privateKey, authorities }: OfferedSvid,
  uri: string,
  kind: SpiffeId['kind'],
  now: number,
): Svid => {
  if (authorities.length > MAX_AUTHORITIES)
    throw refuse(`its bundle holds ${authorities.length} CAs, and ${MAX_AUTHORITIES} are the most`);
  for (const der of authorities) mustBeAuthority(der);
  const trustBundle = { trustDomain: trustDomainOfId(uri) ?? '', certificates: authorities };
  const result = verifyChain(certificateChain, trustBundle, now, CLIENT_AUTH);
  if (result.kind === 'refused') throw refuse(`the certificate of ${printable(uri)} ${result.message}`);
  if (kind === 'registry' && !result.leaf.extendedKeyUsages.includes(SERVER_AUTH))
    throw refuse(`the certificate of ${printable(uri)} is not for servers (extended key usage)`);
  if (!isP256(privateKey))
    throw refuse(`the key of ${printable(uri)} is not on P-256 (in SPIRE: workload_x509_svid_key_type)`);
  if (!result.leaf.x509.checkPrivateKey(privateKey))
    throw refuse(`the certificate of ${printable(uri)} is for another key than the one beside it`);
  const { id, notBefore, notAfter } = result;
  return { id, certificateChain, privateKey, trustBundle, notBefore, notAfter };
};

/** The bundle is what everybody is verified by: one certificate that is no CA's refuses it whole. */
const mustBeAuthority = (der: Uint8Array): void => {
  let isCa = false;
  try {
    const { isCa: said, canCertify } = parseCertificate(der);
    isCa = said && canCertify;
  } catch (cause) {
    throw refuse('its bundle holds a certificate that cannot be read', cause);
  }
  if (!isCa) throw refuse("its bundle holds a certificate that is no CA's");
};

interface Candidate {
  readonly offered: OfferedSvid;
  readonly uri: string;
}

/** Only leaves that can be read have a URI. */
const byEnd = (a: Candidate, b: Candidate): number => endOf(b.offered) - endOf(a.offered);

const endOf = ({ certificateChain: [leaf] }: OfferedSvid): number =>
  leaf === undefined ? 0 : parseCertificate(leaf).notAfter;

/** Of the leaf; empty when it has none, or cannot be read. */
const uriOf = ({ certificateChain: [leaf] }: OfferedSvid): string => {
  try {
    return (leaf && parseCertificate(leaf).uris[0]) ?? '';
  } catch {
    return '';
  }
};

const fits = (uri: string, { kind, name, trustDomain }: Wanted): boolean => {
  const domain = trustDomainOfId(uri);
  if (domain === undefined || (trustDomain !== undefined && domain !== trustDomain)) return false;
  const path = uri.slice(`spiffe://${domain}/`.length);
  if (kind === 'registry' || kind === 'ca' || kind === 'admission') return path === kind;
  return name === undefined ? path.startsWith(`${kind}/`) : path === `${kind}/${name}`;
};

/** "spiffe://aws-prod.example/node/<name>". */
export const describe = ({ kind, name = '<name>', trustDomain = '<trust domain>' }: Wanted): string =>
  kind === 'node' || kind === 'admin' || kind === 'operator'
    ? `spiffe://${trustDomain}/${kind}/${name}`
    : formatSpiffeId({ kind, trustDomain });

const printable = (uri: string): string =>
  uri === '' ? 'nobody' : uri.replace(/[^\x20-\x7e]/g, '?').slice(0, 120);

const refuse = (message: string, cause?: unknown): Vl3Error =>
  new Vl3Error('failed-precondition', message, { cause });
