// One call to a partner's bundle endpoint (SPIFFE Federation, section 5.2), by either profile: the web's CAs vouch for the host's
// name, or the server shows an SVID of the ID that was agreed on, verified by the bundle that is held. Bounded in size and time.
//
// Redirects are followed within the same host and port only. The standard lets them go anywhere; then whoever may write one
// answer of the server decides which machine speaks for the partner from there on.

import { request } from 'node:https';
import type { ConnectionOptions, DetailedPeerCertificate, PeerCertificate } from 'node:tls';
import { Vl3Error } from '../../native-free/error.ts';
import { MAX_BUNDLE_BYTES } from '../../native-free/federation/bundle-document.ts';
import type { SpiffeBundle } from '../../native-free/federation/bundle-rules.ts';
import type { BundleEndpoint } from '../../native-free/federation/endpoint.ts';
import { MAX_CHAIN_CERTIFICATES } from '../../native-free/registry/record.ts';
import { SERVER_AUTH } from '../identity/certificate.ts';
import { type TrustBundle, verifySvid } from '../identity/chain.ts';
import { toPem } from '../identity/pem.ts';
import { decodeSpiffeBundle } from '../identity/spiffe-bundle.ts';
import { upToAnchor } from '../identity/tls.ts';

const TIMEOUT_MS = 10_000;
const MAX_REDIRECTS = 3;
const MAX_HEADER_BYTES = 16 * 1024;

export interface BundleCall {
  readonly endpoint: BundleEndpoint;
  readonly trustDomain: string;
  /** By which an https_spiffe server is verified: what counts of the partner's bundle now. */
  readonly known?: TrustBundle;
  /** For https_web: CAs in PEM instead of the web's. */
  readonly ca?: string;
  readonly signal?: AbortSignal;
  /** For the whole of it. */
  readonly timeoutMs?: number;
}

/**
 * The bundle, decoded and not yet judged (bundle-rules.ts). Throws Vl3Error: 'unauthenticated' when the server is another,
 * 'unavailable' when there is no good answer, 'invalid-argument' when it is no bundle; or what `signal` aborts with.
 */
export const fetchBundle = async (call: BundleCall, now: () => number = Date.now): Promise<SpiffeBundle> => {
  const { endpoint, trustDomain, signal } = call;
  signal?.throwIfAborted();
  const tls = tlsOptions(call, now);
  const overdue = AbortSignal.timeout(call.timeoutMs ?? TIMEOUT_MS);
  const over = AbortSignal.any([overdue, ...(signal === undefined ? [] : [signal])]);
  let url = endpoint.url;
  try {
    for (let redirects = 0; ; redirects++) {
      const answer = await get(url, tls, over);
      if (answer.kind === 'body') return decodeSpiffeBundle(answer.text, trustDomain);
      if (redirects === MAX_REDIRECTS) throw new Error(`more than ${MAX_REDIRECTS} redirects`);
      url = redirected(url, answer.location);
    }
  } catch (cause) {
    signal?.throwIfAborted();
    throw explained(endpoint, cause, overdue.aborted);
  }
};

/** OpenSSL's and Node's names of what is wrong with a certificate. */
const OF_CERTIFICATES = /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_|PATH_LENGTH_|ERR_TLS_CERT_)/;

const explained = ({ url }: BundleEndpoint, cause: unknown, isOverdue: boolean): Vl3Error => {
  const fail = (code: Vl3Error['code'], why: string): Vl3Error =>
    new Vl3Error(code, `the bundle at ${url}: ${why}`, { cause });
  if (isOverdue) return fail('unavailable', 'no answer in time');
  if (cause instanceof Vl3Error) return fail(cause.code, cause.message);
  if (!(cause instanceof Error)) return fail('unavailable', String(cause));
  const isStranger = 'code' in cause && OF_CERTIFICATES.test(String(cause.code));
  return isStranger
    ? fail('unauthenticated', `the server is not the one that is known: ${cause.message}`)
    : fail('unavailable', cause.message);
};

const tlsOptions = (
  { endpoint, trustDomain, known, ca }: BundleCall,
  now: () => number,
): ConnectionOptions => {
  if (endpoint.profile === 'https_web') return { minVersion: 'TLSv1.2', ...(ca !== undefined && { ca }) };
  if (known === undefined || known.certificates.length === 0) {
    throw new Vl3Error(
      'failed-precondition',
      `no bundle of ${trustDomain} counts, by which its bundle endpoint could be known: an admin has to give one`,
    );
  }
  if (known.trustDomain !== trustDomain)
    throw new Vl3Error('internal', `the bundle of ${known.trustDomain} says nothing about ${trustDomain}`);
  return {
    ca: toPem(known.certificates),
    minVersion: 'TLSv1.2',
    // A domain may name an intermediate CA and keep the root to itself.
    allowPartialTrustChain: true,
    // Called before anything is sent; nothing is said of the host's name, which is not who the server is.
    checkServerIdentity: (_host, shown) => serverProblem(chainOf(shown), known, endpoint.spiffeId, now()),
  };
};

/** Why the server is not the one with this SPIFFE ID; undefined: it is. */
const serverProblem = (
  chain: readonly Uint8Array[],
  known: TrustBundle,
  spiffeId: string,
  now: number,
): Vl3Error | undefined => {
  const result = verifySvid(upToAnchor(chain, known), known, now, SERVER_AUTH);
  if (result.kind === 'refused')
    return new Vl3Error(
      'unauthenticated',
      `the server is not ${spiffeId}: its certificate ${result.message}`,
    );
  if (result.uri === spiffeId) return undefined;
  return new Vl3Error('unauthenticated', `the server is ${result.uri}, not ${spiffeId}`);
};

const isDetailed = (shown: PeerCertificate): shown is DetailedPeerCertificate => 'issuerCertificate' in shown;

/** What the server showed, leaf first. */
const chainOf = (leaf: PeerCertificate): Uint8Array[] => {
  const chain: Uint8Array[] = [];
  for (
    let at: PeerCertificate | undefined = leaf;
    at !== undefined && chain.length < MAX_CHAIN_CERTIFICATES;
  ) {
    chain.push(new Uint8Array(at.raw));
    // A self-signed one names itself.
    const issuer: PeerCertificate | undefined = isDetailed(at) ? at.issuerCertificate : undefined;
    at = issuer === at ? undefined : issuer;
  }
  return chain;
};

const redirected = (from: string, location: string): string => {
  const target = URL.canParse(location, from) ? new URL(location, from) : undefined;
  const isPlain = target?.username === '' && target.password === '';
  if (target === undefined || !isPlain || target.origin !== new URL(from).origin)
    throw new Error('it redirects to another place, which is not followed: give that as the endpoint');
  return target.href;
};

type Answer =
  | { readonly kind: 'body'; readonly text: string }
  | { readonly kind: 'redirect'; readonly location: string };

const get = (url: string, tls: ConnectionOptions, signal: AbortSignal): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        ...tls,
        signal,
        // Each call is verified anew, by the bundle of its time.
        agent: false,
        maxHeaderSize: MAX_HEADER_BYTES,
        headers: { accept: 'application/json', 'accept-encoding': 'identity' },
      },
      (response) => {
        const { statusCode = 0, headers } = response;
        const fail = (why: string): void => {
          response.destroy(new Error(why));
        };
        // Node's word for what ends before its length.
        response.on('error', (error) =>
          reject(error.message === 'aborted' ? new Error('the answer was cut off', { cause: error }) : error),
        );
        if (statusCode >= 300 && statusCode < 400 && headers.location !== undefined) {
          resolve({ kind: 'redirect', location: headers.location });
          response.destroy();
          return;
        }
        if (statusCode !== 200) return fail(`the answer is ${statusCode}`);
        const { 'content-encoding': encoding = 'identity' } = headers;
        if (encoding !== 'identity') return fail('the answer is compressed, which was not asked for');
        const tooLong = `the answer is longer than ${MAX_BUNDLE_BYTES} bytes`;
        if (Number(headers['content-length'] ?? 0) > MAX_BUNDLE_BYTES) return fail(tooLong);
        const chunks: Uint8Array[] = [];
        let length = 0;
        response.on('data', (chunk: Uint8Array) => {
          length += chunk.length;
          if (length > MAX_BUNDLE_BYTES) fail(tooLong);
          else chunks.push(chunk);
        });
        response.on('end', () => {
          try {
            resolve({ kind: 'body', text: utf8(Buffer.concat(chunks)) });
          } catch (error) {
            reject(error);
          }
        });
      },
    );
    sent.on('error', reject);
    sent.end();
  });

const decoder = new TextDecoder('utf-8', { fatal: true });

const utf8 = (bytes: Uint8Array): string => {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new Error('the answer is not text in UTF-8', { cause });
  }
};
