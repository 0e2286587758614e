// TLS options for every control connection. Identities are SPIFFE IDs, never host names: a server is the registry of
// the trust domain or it is nobody, and a client is who its SVID names. Not here: the first contact (first-contact.ts).

import type { KeyObject } from 'node:crypto';
import type { ConnectionOptions, PeerCertificate, TlsOptions } from 'node:tls';
import { Vl3Error } from '../../native-free/error.ts';
import { MAX_CHAIN_CERTIFICATES } from '../../native-free/registry/record.ts';
import { CLIENT_AUTH, SERVER_AUTH } from './certificate.ts';
import { createCertificateRequest } from './certificate-request.ts';
import { type TrustBundle, verifyChain } from './chain.ts';
import { formatKey, generateKey } from './key.ts';
import { toPem } from './pem.ts';

/** A key and the chain (DER, leaf first) that says whose it is. */
export interface Credential {
  readonly certificateChain: readonly Uint8Array[];
  readonly privateKey: KeyObject;
}

const MIN_VERSION = 'TLSv1.3';

/** A fresh key and server certificate for a registry; not stored anywhere. */
export const createServerCredential = async (
  signer: { signServerCertificate(request: Uint8Array, hosts: readonly string[]): Promise<Uint8Array[]> },
  hosts: readonly string[],
): Promise<Credential> => {
  const privateKey = await generateKey();
  const request = await createCertificateRequest(privateKey);
  return { privateKey, certificateChain: await signer.signServerCertificate(request, hosts) };
};

/**
 * For the registry's server (http2.createSecureServer). It asks for client certificates and lets connections without a
 * good one in: only Enroll may answer those, see peerIdentity. The chain it shows ends with the CA, for first contacts.
 * The same options go to `server.setSecureContext` when the credential is renewed. CAs of other domains, whose clients are
 * let in as well, are none of its business: their names are in each handshake, and long ones would end them all.
 */
export const serverTlsOptions = (credential: Credential, bundle: TrustBundle) =>
  ({
    key: formatKey(credential.privateKey),
    cert: toPem([...credential.certificateChain, ...bundle.certificates]),
    ca: toPem(bundle.certificates),
    requestCert: true,
    rejectUnauthorized: false,
    minVersion: MIN_VERSION,
  }) satisfies TlsOptions;

/**
 * For a client (http2.connect, or the RPC transports' nodeOptions) that talks to the registry only. Node completes no
 * handshake, and sends nothing, before the server's chain holds under the bundle and names the registry. With a
 * `credential` it is mutual TLS; without, it is for Enroll. `server`: whose it is to be, the registry's or the signer's apart.
 */
export const clientTlsOptions = (
  bundle: TrustBundle,
  credential?: Credential,
  server: 'registry' | 'ca' = 'registry',
) =>
  ({
    ca: toPem(bundle.certificates),
    ...(credential !== undefined && {
      key: formatKey(credential.privateKey),
      cert: toPem(credential.certificateChain),
    }),
    rejectUnauthorized: true,
    minVersion: MIN_VERSION,
    checkServerIdentity: (_host: string, certificate: PeerCertificate) =>
      registryProblem(chainOf(certificate), bundle, Date.now(), server),
  }) satisfies ConnectionOptions;

/** Of the certificate that the other end has shown; undefined: none. */
export const shownLeaf = (socket: PeerSocket): Uint8Array | undefined =>
  chainOf(socket.getPeerCertificate(true))[0];

/** What the other end has shown, the leaf first, as far as each is followed by its issuer. */
const chainOf = (leaf: object | null): Uint8Array[] => {
  const chain: Uint8Array[] = [];
  for (let at: unknown = leaf; isCertificate(at) && chain.length < MAX_CHAIN_CERTIFICATES; ) {
    chain.push(new Uint8Array(at.raw));
    // A root is its own issuer.
    at = at.issuerCertificate === at ? undefined : at.issuerCertificate;
  }
  return chain;
};

const isCertificate = (value: unknown): value is { raw: Uint8Array; issuerCertificate?: unknown } =>
  typeof value === 'object' && value !== null && 'raw' in value && value.raw instanceof Uint8Array;

/**
 * A server shows all CAs of its domain after its chain, and in a rotation there are several: what follows the first that
 * counts is not looked at.
 */
export const upToAnchor = (
  chain: readonly Uint8Array[],
  { certificates }: TrustBundle,
): readonly Uint8Array[] => {
  const at = chain.findIndex((one) => certificates.some((anchor) => Buffer.from(anchor).equals(one)));
  return at < 1 ? chain : chain.slice(0, at);
};

/** Why this chain is not the registry's, or undefined when it is. */
export const registryProblem = (
  chain: readonly Uint8Array[],
  bundle: TrustBundle,
  now = Date.now(),
  server: 'registry' | 'ca' = 'registry',
): Vl3Error | undefined => {
  const result = verifyChain(upToAnchor(chain, bundle), bundle, now, SERVER_AUTH);
  if (result.kind === 'verified' && result.id.kind === server) return undefined;
  const why =
    result.kind === 'refused'
      ? `its certificate ${result.message}`
      : `it is ${result.id.kind} "${'name' in result.id ? result.id.name : ''}"`;
  return new Vl3Error(
    'unauthenticated',
    `the server is not the ${server === 'ca' ? 'CA' : 'registry'} of ${bundle.trustDomain}: ${why}`,
  );
};

export interface PeerIdentity {
  readonly kind: 'admin' | 'operator' | 'node';
  readonly name: string;
  readonly trustDomain: string;
  /** Of its certificate: lowercase hex, and unix ms. */
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface PeerOptions {
  /** As the other end says it, where TLS does not tell; they prove nothing but by their signatures. */
  readonly intermediates?: readonly Uint8Array[];
  /** Whether the bundle is that of the server's own options: then TLS has verified as well, and both must agree. Default true. */
  readonly isOurs?: boolean;
}

/** What peerIdentity needs of a socket; an HTTP/2 session's socket will do. */
export interface PeerSocket {
  readonly authorized: boolean;
  /** Not getPeerX509Certificate, each call of which forgets one more of what came along. Empty or null without any. */
  getPeerCertificate(detailed: true): object | null;
}

/**
 * Who is at the other end of a server's connection: undefined without a certificate, and with one that does not hold
 * now. Call it for each request: a long connection outlives its certificate.
 */
export const peerIdentity = (
  socket: PeerSocket,
  bundle: TrustBundle,
  now = Date.now(),
  options: PeerOptions = {},
): PeerIdentity | undefined => {
  const result = verifyPeer(socket, bundle, now, options);
  if (result?.kind !== 'verified' || !('name' in result.id)) return undefined;
  const { id, leaf, notAfter } = result;
  const { serial, notBefore } = leaf;
  return { kind: id.kind, name: id.name, trustDomain: id.trustDomain, serial, notBefore, notAfter };
};

/** Why peerIdentity is undefined, as a sentence for the caller; undefined when it is not. */
export const peerProblem = (
  socket: PeerSocket,
  bundle: TrustBundle,
  now = Date.now(),
  options: PeerOptions = {},
): string | undefined => {
  const result = verifyPeer(socket, bundle, now, options);
  if (result === undefined) return 'no client certificate was presented';
  if (result.kind === 'refused') return `the client certificate ${result.message}`;
  if ('name' in result.id) return undefined;
  const what = result.id.kind === 'registry' ? "a registry's" : 'for no client';
  return `the client certificate is ${what}`;
};

/** Who is at the other end, whatever it is; undefined: without a certificate. */
export const verifyPeer = (
  socket: PeerSocket,
  bundle: TrustBundle,
  now: number,
  { intermediates = [], isOurs = true }: PeerOptions = {},
) => {
  const shown = chainOf(socket.getPeerCertificate(true));
  const [leaf] = shown;
  if (leaf === undefined) return undefined;
  const chain = intermediates.length === 0 ? shown : [leaf, ...intermediates];
  const result = verifyChain(upToAnchor(chain, bundle), bundle, now, CLIENT_AUTH);
  // That the client holds the key OpenSSL has checked in either case.
  if (result.kind === 'verified' && isOurs && !socket.authorized) {
    return { kind: 'refused', message: 'does not hold' } as const;
  }
  return result;
};
