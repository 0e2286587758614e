// The registry's one TLS port: HTTP/2 for clients of vl3, HTTP/1.1 for curl. It owns the sockets: sessions are pinged so
// that dead ones go, and closing ends all of them.

import { constants } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { TLSSocket, type TlsOptions } from 'node:tls';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort } from '../../native-free/host-port.ts';

export type RequestHandler = (
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
) => void;

export interface ListenerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly tls: TlsOptions;
  /** Whoever answers none of two in a row is gone. */
  readonly pingIntervalMs?: number;
  /** Who shows a certificate that TLS knows nothing of, and is somebody all the same: of a partner. Default: nobody. */
  readonly isKnown?: (session: ServerHttp2Session) => boolean;
  /** How long whoever is nobody may stay. */
  readonly unknownClientMs?: number;
}

const PING_INTERVAL_MS = 10_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 20_000;
/** How long open calls may finish when the listener closes. */
const GRACE_MS = 500;

export class Listener implements AsyncDisposable {
  readonly #server: Http2SecureServer;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Http2SecureServer, options: ListenerOptions) {
    this.#server = server;
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      // A connection that fails is the client's loss; the server goes on.
      socket.on('error', () => socket.destroy());
    });
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    server.on('session', (session) => keepAlive(session, options));
    server.on('sessionError', () => {});
  }

  /** Throws Vl3Error('failed-precondition') when the address cannot be listened on. */
  static async open(options: ListenerOptions, handler: RequestHandler): Promise<Listener> {
    const server = createSecureServer({
      ...options.tls,
      // Without tickets: each connection shows its certificate anew.
      secureOptions: constants.SSL_OP_NO_TICKET,
      allowHTTP1: true,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      settings: { maxConcurrentStreams: 512 },
      maxSessionRejectedStreams: 100,
    });
    server.maxConnections = MAX_CONNECTIONS;
    const listener = new Listener(server, options);
    server.on('request', handler);
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen({ host: options.host, port: options.port }, () => {
          server.off('error', reject);
          resolve();
        });
      });
    } catch (cause) {
      throw new Vl3Error('failed-precondition', cannotListen(options, cause), { cause });
    }
    return listener;
  }

  get port(): number {
    const address: string | AddressInfo | null = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  /** From the next connection on. */
  setTls(tls: TlsOptions): void {
    this.#server.setSecureContext(tls);
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

/** Whoever shows no good certificate came to enrol, which takes no time. */
const UNKNOWN_CLIENT_MS = 60_000;

const keepAlive = (
  session: ServerHttp2Session,
  { pingIntervalMs = PING_INTERVAL_MS, unknownClientMs = UNKNOWN_CLIENT_MS, isKnown }: ListenerOptions,
): void => {
  // Two in a row: a stall of our own must not look like the silence of everyone else.
  let unanswered = 0;
  const timer = setInterval(() => {
    if (unanswered >= 2 || session.destroyed) {
      session.destroy();
      return;
    }
    unanswered++;
    session.ping((error) => {
      if (error === null) unanswered = 0;
    });
  }, pingIntervalMs);
  const known = session.socket instanceof TLSSocket && session.socket.authorized;
  const leave = (): void => {
    // Of a partner one can be nobody by and by: its watches end then, and it is asked again.
    if (isKnown?.(session) === true) leaving?.refresh();
    else session.destroy();
  };
  const leaving = known ? undefined : setTimeout(leave, unknownClientMs);
  session.on('close', () => {
    clearInterval(timer);
    clearTimeout(leaving);
  });
  session.on('error', () => session.destroy());
};

const cannotListen = ({ host, port }: ListenerOptions, cause: unknown): string => {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  const where = formatHostPort({ host, port });
  if (code === 'EADDRINUSE') {
    return `${where} is taken by another program (see \`ss -ltnp\`): stop that one, or choose another --listen`;
  }
  if (code === 'EACCES')
    return `${where} needs privileges: choose a --listen port above 1023, or run as root`;
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return `${where} is no address of this machine: choose another --listen, such as 0.0.0.0:${port}`;
  }
  return `cannot listen on ${where} (${code}): choose another --listen`;
};
