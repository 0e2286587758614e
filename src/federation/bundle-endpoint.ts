// Serves this domain's bundle (SPIFFE Federation, section 5.2): one path, GET, for whoever asks, since it is no secret; and nothing
// else is behind it. Which profile it is depends on the certificate that it shows: one of a CA of the web, or an SVID.

import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import { formatKey } from '../identity/key.ts';
import { toPem } from '../identity/pem.ts';
import type { Credential } from '../identity/tls.ts';

const TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 256;
const MAX_HEADER_BYTES = 8 * 1024;
const CLOSING = { connection: 'close' };
/** How long open calls may finish when it closes. */
const GRACE_MS = 500;

/** What a server of the https_spiffe profile shows: its SVID. */
export const svidTls = (credential: Credential): TlsOptions => ({
  key: formatKey(credential.privateKey),
  cert: toPem(credential.certificateChain),
});

export interface BundleEndpointOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** "/bundle.json". */
  readonly path: string;
  /** Key and certificate: `svidTls`, or PEM from files for https_web. */
  readonly tls: TlsOptions;
  /** Seconds that whoever stands in between may keep it. */
  readonly maxAge: number;
  /** For a handshake, and for a request. */
  readonly timeoutMs?: number;
}

export class BundleEndpoint implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    server.maxConnections = MAX_CONNECTIONS;
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => socket.destroy());
    });
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    server.on('clientError', (_error, socket) => socket.destroy());
  }

  /** `current` is the document as it is at each call. Throws Vl3Error('failed-precondition') when it cannot listen. */
  static async open(options: BundleEndpointOptions, current: () => string): Promise<BundleEndpoint> {
    const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    const server = createServer({
      minVersion: 'TLSv1.2',
      ...options.tls,
      handshakeTimeout: timeoutMs,
      headersTimeout: timeoutMs,
      requestTimeout: timeoutMs,
      connectionsCheckingInterval: timeoutMs / 2,
      keepAlive: false,
      keepAliveTimeout: 1,
      maxHeaderSize: MAX_HEADER_BYTES,
    });
    server.maxRequestsPerSocket = 1;
    const endpoint = new BundleEndpoint(server);
    server.on('request', (request, response) => answer(request, response, options, current));
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen({ host: options.host, port: options.port }, () => {
          server.off('error', reject);
          resolve();
        });
      });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Vl3Error(
        'failed-precondition',
        `the bundle cannot be served on ${formatHostPort(options)} (${why}): choose another address`,
        { cause },
      );
    }
    return endpoint;
  }

  get port(): number {
    const address: string | AddressInfo | null = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  /** From the next connection on. */
  setTls(tls: TlsOptions): void {
    this.#server.setSecureContext({ minVersion: 'TLSv1.2', ...tls });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, GRACE_MS);
    await closed;
    clearTimeout(timer);
  }
}

const answer = (
  request: IncomingMessage,
  response: ServerResponse,
  { path, maxAge }: BundleEndpointOptions,
  current: () => string,
): void => {
  // Nothing that is sent is read.
  request.on('error', () => {});
  const { method, url = '' } = request;
  const isThere = url.split('?')[0] === path;
  if (!isThere || method !== 'GET') {
    response.writeHead(isThere ? 405 : 404, isThere ? { ...CLOSING, allow: 'GET' } : CLOSING).end();
    return;
  }
  const body = current();
  const etag = `"${createHash('sha256').update(body).digest('base64url')}"`;
  const headers = { ...CLOSING, etag, 'cache-control': `public, max-age=${maxAge}` };
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, headers).end();
    return;
  }
  const length = Buffer.byteLength(body);
  response
    .writeHead(200, { ...headers, 'content-type': 'application/json', 'content-length': length })
    .end(body);
};
