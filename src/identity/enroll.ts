// Enrolment, the node's side: a join token, or one of its Kubernetes cluster, and a fresh key become the node's stored identity.
// The flow, in order: keep the key, meet the registry (first-contact.ts), ask for the SVID on a verified connection, check it,
// store it.

import type { KeyObject } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { type ErrorCode, Vl3Error } from '../../native-free/error.ts';
import { parseName } from '../../native-free/registry/spiffe-id.ts';
import { fromConnectError } from '../api/errors.ts';
import { EnrollmentService } from '../api/generated/vl3/v1/enrollment_pb.js';
import { createCertificateRequest } from './certificate-request.ts';
import type { TrustBundle } from './chain.ts';
import type { DomainAddress } from './domain-address.ts';
import { fetchTrustBundle } from './first-contact.ts';
import { createIdentity, type Identity } from './identity.ts';
import { storeNodeIdentity } from './identity-file.ts';
import { formatKey, generateKey, parseKey } from './key.ts';
import { makePrivateDirectory, readPrivateFile, writePrivateFile } from './private-file.ts';
import { parseRegistryAddress, registryUrl } from './registry-address.ts';
import { proveEnrolment, tokenKey } from './svid-proofs.ts';
import { clientTlsOptions } from './tls.ts';
import { hashSecret, type JoinToken } from './token.ts';

const CALL_TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 65_536;
const KEY_FILE = 'enrolling-key.pem';

interface Where {
  /** The agent's state directory; the identity is stored there. */
  readonly directory: string;
  readonly signal?: AbortSignal;
}

export interface EnrollOptions extends Where {
  readonly token: JoinToken;
  readonly node: string;
}

export interface ClusterEnrollOptions extends Where {
  readonly domain: DomainAddress;
  /** The service-account token of the agent's pod: says which node this is. */
  readonly kubernetesToken: string;
  /** What the node is called if that is known; the registry refuses any other. */
  readonly node?: string | undefined;
}

/**
 * Tries the token's registries one after another. Throws Vl3Error: 'unavailable' when none can be reached (try again),
 * 'unauthenticated' when one is not of the token's CA (it got nothing), otherwise the registry's refusal.
 */
export const enroll = async (
  { token, node, ...where }: EnrollOptions,
  now: () => number = Date.now,
): Promise<Identity> => {
  parseName('node', node);
  const shown = token.isProven ? { provenSecret: token.secret, node } : { tokenSecret: token.secret, node };
  return await enrollAt(token, shown, where, now);
};

/** As `enroll`. What the node is called, its identity says. */
export const enrollByCluster = async (
  { domain, kubernetesToken, node = '', ...where }: ClusterEnrollOptions,
  now: () => number = Date.now,
): Promise<Identity> => await enrollAt(domain, { kubernetesToken, node }, where, now);

const enrollAt = async (
  domain: DomainAddress,
  shown: Shown,
  { directory, signal }: Where,
  now: () => number,
): Promise<Identity> => {
  await makePrivateDirectory(directory);
  const keyPath = join(directory, KEY_FILE);
  const privateKey = await keptKey(keyPath);
  const certificateRequest = await createCertificateRequest(privateKey);
  const answer = await askAny(domain, requestOf(shown, certificateRequest), now, signal);
  const { trustBundle, certificateChain } = answer;
  const { registries } = domain;
  // What was asked for counts; the answer's name only where none was.
  const name = shown.node === '' ? parseName('node', answer.node) : shown.node;
  const identity = createIdentity(
    { kind: 'node', name, registries, trustBundle, privateKey, certificateChain },
    now(),
  );
  await storeNodeIdentity(directory, identity);
  await unlink(keyPath);
  return identity;
};

/**
 * The key outlives a crash or a lost answer: the registry answers the token's second use if it is by the same key.
 */
const keptKey = async (path: string): Promise<KeyObject> => {
  const what = 'the enrolling key';
  const kept = await readPrivateFile(path, what);
  if (kept !== undefined) return parseKey(Buffer.from(kept).toString(), path);
  const key = await generateKey();
  await writePrivateFile(path, Buffer.from(formatKey(key)), what);
  return key;
};

type Shown = { readonly node: string } & (
  | { readonly tokenSecret: string }
  /** Goes nowhere: a proof of it does. */
  | { readonly provenSecret: string }
  | { readonly kubernetesToken: string }
);
type Request = { readonly node: string; readonly certificateRequest: Uint8Array } & (
  | { readonly tokenSecret: string }
  | { readonly tokenId: string; readonly tokenProof: Uint8Array }
  | { readonly kubernetesToken: string }
);

const requestOf = (shown: Shown, certificateRequest: Uint8Array): Request => {
  if (!('provenSecret' in shown)) return { ...shown, certificateRequest };
  const { node, provenSecret } = shown;
  const tokenId = hashSecret(provenSecret);
  const claim = { tokenId, node, request: certificateRequest };
  return { node, certificateRequest, tokenId, tokenProof: proveEnrolment(tokenKey(provenSecret), claim) };
};

interface Answer {
  readonly trustBundle: TrustBundle;
  readonly certificateChain: readonly Uint8Array[];
  readonly node: string;
}

/** The first answer; a registry that is down is passed over, and so is an impostor, but a refusal is final. */
const askAny = async (
  { trustDomain, caFingerprint, registries }: DomainAddress,
  request: Request,
  now: () => number,
  signal: AbortSignal | undefined,
): Promise<Answer> => {
  const failures: Vl3Error[] = [];
  for (const registry of registries) {
    const address = parseRegistryAddress(registry);
    const contact = { address, trustDomain, caFingerprints: [caFingerprint], signal };
    const trustBundle = await fetchTrustBundle(contact, now).catch(passOver(failures, signal));
    if (trustBundle === undefined) continue;
    const answer = await ask(registryUrl(address), trustBundle, request, signal).catch(
      passOver(failures, signal, 'unavailable'),
    );
    if (answer !== undefined) return { trustBundle, ...answer };
  }
  // An impostor is worth more words than a registry that is down.
  const worst = failures.find((one) => one.code === 'unauthenticated') ?? failures[0];
  throw worst ?? new Vl3Error('invalid-argument', 'there is no registry to ask');
};

/** Collects a failure, if it is of this code (undefined: of any), and rethrows everything else. */
const passOver =
  (failures: Vl3Error[], signal: AbortSignal | undefined, code?: ErrorCode) =>
  (error: unknown): undefined => {
    signal?.throwIfAborted();
    if (!(error instanceof Vl3Error) || (code !== undefined && error.code !== code)) throw error;
    failures.push(error);
  };

/** What the registry gives for the token. Throws Vl3Error. */
const ask = async (
  url: string,
  trustBundle: TrustBundle,
  request: Request,
  signal: AbortSignal | undefined,
): Promise<Pick<Answer, 'certificateChain' | 'node'>> => {
  const sessionManager = new Http2SessionManager(url, {}, clientTlsOptions(trustBundle));
  try {
    const transport = createConnectTransport({
      baseUrl: url,
      httpVersion: '2',
      sessionManager,
      readMaxBytes: MAX_ANSWER_BYTES,
    });
    const client = createClient(EnrollmentService, transport);
    const { certificateChain, node } = await client.enroll(request, {
      timeoutMs: CALL_TIMEOUT_MS,
      ...(signal !== undefined && { signal }),
    });
    return { certificateChain, node };
  } catch (error) {
    throw fromConnectError(error);
  } finally {
    sessionManager.abort();
  }
};
