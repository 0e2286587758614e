// Enrolment, the node's side: a join token and a fresh key become the node's stored identity. The flow, in order:
// keep the key, meet the registry (first-contact.ts), ask for the SVID on a verified connection, check it, store it.

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
import { fetchTrustBundle } from './first-contact.ts';
import { createIdentity, type Identity } from './identity.ts';
import { storeNodeIdentity } from './identity-file.ts';
import { formatKey, generateKey, parseKey } from './key.ts';
import { makePrivateDirectory, readPrivateFile, writePrivateFile } from './private-file.ts';
import { parseRegistryAddress, registryUrl } from './registry-address.ts';
import { clientTlsOptions } from './tls.ts';
import type { JoinToken } from './token.ts';

const CALL_TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 65_536;
const KEY_FILE = 'enrolling-key.pem';

export interface EnrollOptions {
  readonly token: JoinToken;
  readonly node: string;
  /** The agent's state directory; the identity is stored there. */
  readonly directory: string;
  readonly signal?: AbortSignal;
}

/**
 * Tries the token's registries one after another. Throws Vl3Error: 'unavailable' when none can be reached (try again),
 * 'unauthenticated' when one is not of the token's CA (it got nothing), otherwise the registry's refusal.
 */
export const enroll = async (
  { token, node, directory, signal }: EnrollOptions,
  now: () => number = Date.now,
): Promise<Identity> => {
  parseName('node', node);
  await makePrivateDirectory(directory);
  const keyPath = join(directory, KEY_FILE);
  const privateKey = await keptKey(keyPath);
  const certificateRequest = await createCertificateRequest(privateKey);
  const { trustBundle, certificateChain } = await askAny(token, { certificateRequest, node }, now, signal);
  const identity = createIdentity(
    { kind: 'node', name: node, registries: token.registries, trustBundle, privateKey, certificateChain },
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

interface Request {
  readonly certificateRequest: Uint8Array;
  readonly node: string;
}

interface Answer {
  readonly trustBundle: TrustBundle;
  readonly certificateChain: readonly Uint8Array[];
}

/** The first answer; a registry that is down is passed over, and so is an impostor, but a refusal is final. */
const askAny = async (
  token: JoinToken,
  request: Request,
  now: () => number,
  signal: AbortSignal | undefined,
): Promise<Answer> => {
  const { trustDomain, caFingerprint, secret } = token;
  const failures: Vl3Error[] = [];
  for (const registry of token.registries) {
    const address = parseRegistryAddress(registry);
    const contact = { address, trustDomain, caFingerprint, signal };
    const trustBundle = await fetchTrustBundle(contact, now).catch(passOver(failures, signal));
    if (trustBundle === undefined) continue;
    const certificateChain = await ask(registryUrl(address), trustBundle, secret, request, signal).catch(
      passOver(failures, signal, 'unavailable'),
    );
    if (certificateChain !== undefined) return { trustBundle, certificateChain };
  }
  // An impostor is worth more words than a registry that is down.
  const worst = failures.find((one) => one.code === 'unauthenticated') ?? failures[0];
  throw worst ?? new Vl3Error('invalid-argument', 'the join token names no registry');
};

/** Collects a failure, if it is of this code (undefined: of any), and rethrows everything else. */
const passOver =
  (failures: Vl3Error[], signal: AbortSignal | undefined, code?: ErrorCode) =>
  (error: unknown): undefined => {
    signal?.throwIfAborted();
    if (!(error instanceof Vl3Error) || (code !== undefined && error.code !== code)) throw error;
    failures.push(error);
  };

/** The chain that the registry gives for the token. Throws Vl3Error. */
const ask = async (
  url: string,
  trustBundle: TrustBundle,
  tokenSecret: string,
  request: Request,
  signal: AbortSignal | undefined,
): Promise<readonly Uint8Array[]> => {
  const sessionManager = new Http2SessionManager(url, {}, clientTlsOptions(trustBundle));
  try {
    const transport = createConnectTransport({
      baseUrl: url,
      httpVersion: '2',
      sessionManager,
      readMaxBytes: MAX_ANSWER_BYTES,
    });
    const client = createClient(EnrollmentService, transport);
    const answer = await client.enroll(
      { tokenSecret, ...request },
      { timeoutMs: CALL_TIMEOUT_MS, ...(signal !== undefined && { signal }) },
    );
    return answer.certificateChain;
  } catch (error) {
    throw fromConnectError(error);
  } finally {
    sessionManager.abort();
  }
};
