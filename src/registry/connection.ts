// A client's connection to the domain's registries: one HTTP/2 session over mutual TLS, to whichever of the addresses
// answers first in turn. Changing the address happens only before a request is sent, so no call is ever made twice.
// Pings find a dead session within seconds.

import type { ClientHttp2Stream, ClientSessionRequestOptions, OutgoingHttpHeaders } from 'node:http2';
import type { ConnectionOptions } from 'node:tls';
import { Code, ConnectError, type Transport } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import { formatIntermediates, INTERMEDIATES_HEADER } from '../identity/intermediates.ts';
import { parseRegistryAddress, registryUrl } from '../identity/registry-address.ts';

export interface ConnectionOptionsOfRegistry {
  /** "host:port" each; tried in turn. */
  readonly registries: readonly string[];
  /** See clientTlsOptions. */
  readonly tls: ConnectionOptions;
  /** The chain that is shown by TLS, the leaf first. */
  readonly certificateChain?: readonly Uint8Array[];
  readonly connectTimeoutMs?: number;
  /** For each call that is not a stream. */
  readonly callTimeoutMs?: number;
  /** Who is called, in sentences. Default: a registry. */
  readonly who?: 'registry' | 'signer';
  /** Of an answer, bytes. Default: whatever comes. */
  readonly maxAnswerBytes?: number;
}

/** Of no host: sessions name theirs. It only has to agree with the transport's base URL. */
const AUTHORITY = 'https://registry.vl3';
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 8_000;

interface Target {
  readonly address: string;
  readonly sessions: Http2SessionManager;
  /** The attempt under way, which everyone who calls meanwhile shares: its outcome and its reason are theirs too. */
  attempt: Promise<string | undefined> | undefined;
}

/** The session manager that the transport asks for streams. */
class Sessions {
  readonly authority = AUTHORITY;
  readonly #targets: readonly Target[];
  readonly #connectTimeoutMs: number;
  readonly #who: string;
  #current = 0;

  constructor(options: ConnectionOptionsOfRegistry) {
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 10_000;
    this.#who = options.who ?? 'registry';
    this.#targets = options.registries.map((text) => {
      const address = parseRegistryAddress(text);
      const ping = { pingIntervalMs: PING_INTERVAL_MS, pingTimeoutMs: PING_TIMEOUT_MS };
      return {
        address: formatHostPort(address),
        sessions: new Http2SessionManager(registryUrl(address), ping, options.tls),
        attempt: undefined,
      };
    });
    if (this.#targets.length === 0)
      throw new Vl3Error('invalid-argument', 'no address of a registry is given');
  }

  async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: Omit<ClientSessionRequestOptions, 'signal'>,
  ): Promise<ClientHttp2Stream> {
    const first = this.#current;
    const problems: string[] = [];
    for (let i = 0; i < this.#targets.length; i++) {
      const at = (first + i) % this.#targets.length;
      const target = this.#targets[at];
      if (target === undefined) continue;
      const problem = await this.#connect(target);
      if (problem === undefined) {
        this.#current = at;
        return await target.sessions.request(method, path, headers, options);
      }
      problems.push(`${target.address} (${problem})`);
    }
    throw new ConnectError(
      `no ${this.#who} answers at ${problems.join(', ')}: is it running, and is the way to it open?`,
      Code.Unavailable,
    );
  }

  notifyResponseByteRead(stream: ClientHttp2Stream): void {
    for (const { sessions } of this.#targets) sessions.notifyResponseByteRead(stream);
  }

  close(): void {
    for (const { sessions } of this.#targets) sessions.abort();
  }

  /** Undefined once connected, else why not. */
  #connect(target: Target): Promise<string | undefined> {
    target.attempt ??= this.#attempt(target.sessions).finally(() => {
      target.attempt = undefined;
    });
    return target.attempt;
  }

  async #attempt(sessions: Http2SessionManager): Promise<string | undefined> {
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      sessions.abort();
    }, this.#connectTimeoutMs);
    const state = await sessions.connect();
    clearTimeout(timer);
    if (state !== 'error') return undefined;
    if (timedOut) return `no answer in ${this.#connectTimeoutMs / 1000} s`;
    const error = sessions.error();
    return error === undefined ? 'the connection was closed' : reasonOf(error);
  }
}

const OTHER_CA =
  "one does, but its certificate is of another CA than is known here: it is another domain's, or the CA was rotated, and what is known here is from before";

/** What OpenSSL's codes mean here. */
const CERTIFICATE_PROBLEMS: Readonly<Record<string, string>> = {
  CERT_SIGNATURE_FAILURE: OTHER_CA,
  DEPTH_ZERO_SELF_SIGNED_CERT: OTHER_CA,
  SELF_SIGNED_CERT_IN_CHAIN: OTHER_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: OTHER_CA,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: OTHER_CA,
  CERT_NOT_YET_VALID: 'one does, but its certificate is not valid yet: look at the clocks of both',
  CERT_HAS_EXPIRED: 'one does, but its certificate has expired: look at the clocks of both',
};

/** The innermost message: what the network or TLS said. */
const reasonOf = (error: unknown): string => {
  let at = error;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  if (at instanceof ConnectError) return at.rawMessage;
  const ofCertificate =
    at instanceof Error && 'code' in at ? CERTIFICATE_PROBLEMS[String(at.code)] : undefined;
  if (ofCertificate !== undefined) return ofCertificate;
  return at instanceof Error ? at.message : String(at);
};

export interface RegistryConnection extends AsyncDisposable {
  readonly transport: Transport;
}

/** Connects lazily, at the first call. Throws Vl3Error('invalid-argument') for a malformed address. */
export const connectRegistry = (options: ConnectionOptionsOfRegistry): RegistryConnection => {
  const sessionManager = new Sessions(options);
  const callTimeoutMs = options.callTimeoutMs ?? 15_000;
  const grpc = createGrpcTransport({
    baseUrl: AUTHORITY,
    sessionManager,
    acceptCompression: [],
    ...(options.maxAnswerBytes !== undefined && { readMaxBytes: options.maxAnswerBytes }),
  });
  const intermediates = formatIntermediates(options.certificateChain ?? []);
  const shown = (header: Parameters<Transport['unary']>[3]): Headers => {
    const headers = new Headers(header);
    if (intermediates !== undefined) headers.set(INTERMEDIATES_HEADER, intermediates);
    return headers;
  };
  return {
    transport: {
      unary: (method, signal, timeoutMs, header, input, values) =>
        grpc.unary(method, signal, timeoutMs ?? callTimeoutMs, shown(header), input, values),
      stream: (method, signal, timeoutMs, header, input, values) =>
        grpc.stream(method, signal, timeoutMs, shown(header), input, values),
    },
    async [Symbol.asyncDispose]() {
      sessionManager.close();
    },
  };
};
