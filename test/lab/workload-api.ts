// A server of the SPIFFE Workload API on a unix socket, as a SPIFFE agent has one: it streams what it is told to, to everybody who
// asks as the standard wants it. It lies, stops and comes back on demand.

import { rmSync } from 'node:fs';
import { createServer, type Http2Server, type ServerHttp2Session } from 'node:http2';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { SpiffeWorkloadAPI } from '../../src/api/generated/spiffe/workload/workload_pb.js';
import type { OfferedSvid } from '../../src/identity/svid.ts';

export interface Answer {
  readonly svids: readonly {
    spiffeId: string;
    x509Svid: Uint8Array;
    x509SvidKey: Uint8Array;
    bundle: Uint8Array;
  }[];
  readonly federatedBundles?: Readonly<Record<string, Uint8Array>>;
}

export const answerOf = (
  svids: Readonly<Record<string, OfferedSvid>>,
  federatedBundles: Readonly<Record<string, Uint8Array>> = {},
): Answer => ({
  svids: Object.entries(svids).map(([spiffeId, { certificateChain, privateKey, authorities }]) => ({
    spiffeId,
    x509Svid: new Uint8Array(Buffer.concat(certificateChain)),
    x509SvidKey: new Uint8Array(privateKey.export({ type: 'pkcs8', format: 'der' })),
    bundle: new Uint8Array(Buffer.concat(authorities)),
  })),
  federatedBundles,
});

export class WorkloadApiServer implements AsyncDisposable {
  readonly socket: string;
  #answer: Answer | undefined;
  #changed = Promise.withResolvers<void>();
  #ending: { readonly error: ConnectError | undefined } | undefined;
  #server: Http2Server | undefined;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** Streams that were asked for since the start. */
  streams = 0;

  constructor(socket: string) {
    this.socket = socket;
  }

  get endpoint(): string {
    return `unix://${this.socket}`;
  }

  /** What there is from now on; undefined: no entry fits who asks. */
  publish(answer: Answer | undefined): void {
    this.#answer = answer;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /**
   * Streams that are open end, by this error or by none (EOF), as when a SPIFFE agent is started again; others may begin at
   * once.
   */
  endStreams(error?: ConnectError): void {
    this.#ending = { error };
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async start(): Promise<void> {
    rmSync(this.socket, { force: true });
    const server = createServer(connectNodeAdapter({ routes: (router) => this.#routes(router) }));
    server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('close', () => this.#sessions.delete(session));
      session.on('error', () => {});
    });
    await new Promise<void>((resolve) => server.listen(this.socket, resolve));
    this.#server = server;
  }

  /** Every stream breaks. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const session of this.#sessions) session.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #routes(router: ConnectRouter): void {
    const answers = (signal: AbortSignal) => this.#answers(signal);
    router.service(SpiffeWorkloadAPI, {
      async *fetchX509SVID(_request, { requestHeader, signal }) {
        if (requestHeader.get('workload.spiffe.io') !== 'true')
          throw new ConnectError('security header missing from request', Code.InvalidArgument);
        yield* answers(signal);
      },
    });
  }

  async *#answers(signal: AbortSignal) {
    this.streams++;
    const aborted = new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const before = this.#ending;
    while (!signal.aborted) {
      const changed = this.#changed.promise;
      if (this.#ending !== before) {
        if (this.#ending?.error !== undefined) throw this.#ending.error;
        return;
      }
      if (this.#answer === undefined) throw new ConnectError('no identity issued', Code.PermissionDenied);
      yield { svids: [...this.#answer.svids], federatedBundles: { ...this.#answer.federatedBundles } };
      await Promise.race([changed, aborted]);
    }
  }
}
