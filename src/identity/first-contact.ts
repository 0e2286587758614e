// The first connection to a domain's registry, when nothing is known but the CA's fingerprint from the join token. It
// completes a TLS handshake, takes the CA from the server's chain if it has that very fingerprint and if the server is
// the registry under it, and hangs up. Not a byte of ours is sent inside; Enroll then uses a connection of its own,
// verified against the CA that was found.

import { timingSafeEqual, type X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort, type HostPort } from '../../native-free/host-port.ts';
import { MAX_CHAIN_CERTIFICATES } from '../../native-free/registry/record.ts';
import { fingerprint } from './certificate.ts';
import type { TrustBundle } from './chain.ts';
import { registryProblem } from './tls.ts';

const TIMEOUT_MS = 10_000;

export interface FirstContactOptions {
  readonly address: HostPort;
  readonly trustDomain: string;
  /** SHA-256 of the CA certificates, 32 B each: any of them will do. */
  readonly caFingerprints: readonly Uint8Array[];
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

/**
 * The trust bundle behind the fingerprint. Throws Vl3Error: 'unavailable' when no TLS server answers,
 * 'unauthenticated' when the one that does is not the registry.
 */
export const fetchTrustBundle = async (
  options: FirstContactOptions,
  now: () => number,
): Promise<TrustBundle> => {
  const where = formatHostPort(options.address);
  const socket = await handshake(options, where);
  try {
    return readTrustBundle(peerChain(socket), options, where, now());
  } finally {
    socket.destroy();
  }
};

const readTrustBundle = (
  chain: readonly Uint8Array[],
  { trustDomain, caFingerprints }: FirstContactOptions,
  where: string,
  now: number,
): TrustBundle => {
  const ca = chain.find((der) => caFingerprints.some((one) => timingSafeEqual(fingerprint(der), one)));
  if (ca === undefined) {
    throw new Vl3Error(
      'unauthenticated',
      `the server at ${where} does not belong to the CA that the join token, the invitation, or the domain's address, names; nothing was sent to it. Is that of another registry, or somebody between this machine and the registry?`,
    );
  }
  const bundle = { trustDomain, certificates: [ca] };
  const problem = registryProblem(chain.slice(0, chain.indexOf(ca) + 1), bundle, now);
  if (problem !== undefined) throw problem;
  return bundle;
};

const handshake = async (
  { address, signal, timeoutMs }: FirstContactOptions,
  where: string,
): Promise<TLSSocket> => {
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const socket = connect({
    host: address.host,
    port: address.port,
    ...(isIP(address.host) === 0 && { servername: address.host }),
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    // Whoever answers is looked at below, before anything is sent; there is no CA to check against yet.
    rejectUnauthorized: false,
  });
  const fail = (why: string, cause?: unknown) =>
    reject(new Vl3Error('unavailable', `the registry at ${where} cannot be reached: ${why}`, { cause }));
  const timer = setTimeout(() => fail('no answer in time'), timeoutMs ?? TIMEOUT_MS);
  const onAbort = () => reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  socket.on('error', (cause) => fail(cause.message, cause));
  socket.on('close', () => fail('the connection was closed'));
  socket.once('secureConnect', () => resolve(socket));
  try {
    return await promise;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
};

/** The certificates the server showed, leaf first. */
const peerChain = (socket: TLSSocket): Uint8Array[] => {
  const chain: Uint8Array[] = [];
  let at: X509Certificate | undefined = socket.getPeerX509Certificate();
  while (at !== undefined && chain.length < MAX_CHAIN_CERTIFICATES) {
    chain.push(new Uint8Array(at.raw));
    at = at.issuerCertificate;
  }
  return chain;
};
