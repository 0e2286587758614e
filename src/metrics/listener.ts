// Where a program is looked at: /metrics, /healthz and /readyz over plain HTTP, on an address of its own, never on one
// that peers or clients use. It opens before the program does anything, and says "not ready" until it is told whom to ask.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort, type HostPort } from '../../native-free/host-port.ts';

/** What is asked; the lists hold sentences about what is wrong, and are empty when all is well. */
export interface Observed extends Disposable {
  /** Prometheus' text format. */
  metrics(): Promise<string>;
  /** Whether the process works: if not, it should be started again. */
  health(): Promise<string[]>;
  /** Whether it does what it is for. */
  readiness(): Promise<string[]>;
}

const STARTING: Observed = {
  metrics: async () => '',
  health: async () => [],
  readiness: async () => ['it is starting, or waits for the registry to enrol this node'],
  [Symbol.dispose]: () => {},
};

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const MAX_CONNECTIONS = 64;
/** An answer that takes longer is one: the process does not work. */
const ANSWER_MS = 5000;

export class MetricsListener implements AsyncDisposable {
  readonly #server: Server;
  #observed: Observed = STARTING;

  /** Throws Vl3Error('failed-precondition') when the address cannot be listened on. */
  static async open(at: HostPort): Promise<MetricsListener> {
    const listener = new MetricsListener();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    listener.#server.once('error', reject).listen({ host: at.host, port: at.port }, resolve);
    try {
      await promise;
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
      const why = code === 'EADDRINUSE' ? 'is taken by another program' : `cannot be listened on (${code})`;
      const sentence = `${formatHostPort(at)} ${why}: choose another --metrics-listen, or leave it out`;
      throw new Vl3Error('failed-precondition', sentence, { cause });
    }
    return listener;
  }

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.headersTimeout = ANSWER_MS;
    this.#server.requestTimeout = ANSWER_MS;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  /** Owns what it is given. */
  observe(observed: Observed): void {
    this.#observed = observed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url?.split('?')[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') return say(response, 405, 'use GET\n');
    if (path === '/metrics') {
      const text = await inTime(this.#observed.metrics());
      return text === undefined ? say(response, 503, 'metrics take too long\n') : say(response, 200, text);
    }
    const check = path === '/healthz' ? 'health' : path === '/readyz' ? 'readiness' : undefined;
    if (check === undefined) return say(response, 404, 'there are /metrics, /healthz and /readyz\n');
    const problems = (await inTime(this.#observed[check]())) ?? ['the check takes too long'];
    if (problems.length === 0) return say(response, 200, 'ok\n');
    return say(response, 503, problems.map((one) => `${one}\n`).join(''));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
    this.#observed[Symbol.dispose]();
  }
}

const say = (response: ServerResponse, status: number, text: string): void => {
  response.writeHead(status, { 'content-type': CONTENT_TYPE, 'cache-control': 'no-store' }).end(text);
};

/** Undefined when it takes too long. */
const inTime = async <T>(work: Promise<T>): Promise<T | undefined> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ANSWER_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
};
