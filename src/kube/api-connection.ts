// Requests to an API server: JSON asked and answered, and watches, of which each line is a JSON of its own. Connections are
// kept and used again. What is asked is kubernetes-api.ts.

import type { IncomingMessage } from 'node:http';
import { Agent, type RequestOptions, request } from 'node:https';
import type { ApiAccess } from './api-access.ts';

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean>>;
  readonly body?: unknown;
  /** Of the body. Default: application/json. */
  readonly contentType?: string;
}

/** The server refused, with this status. */
export class ApiRefusal extends Error {
  readonly code: number;
  /** As it came, and no more of it than says why. */
  readonly body: string;

  constructor(code: number, body: string) {
    super(`status ${code}`);
    this.name = 'ApiRefusal';
    this.code = code;
    this.body = body;
  }
}

const CALL_MS = 30_000;
/** A watch that says nothing for so long is dead: bookmarks come every minute. */
const SILENCE_MS = 150_000;
/** Two of them are watches. What many pods want at once waits in line. */
const CONNECTIONS = 8;
/** A page of 500 pods; etcd takes none of more than 1.5 MB. */
const MAX_ANSWER = 256 * 1024 * 1024;
const MAX_LINE = 4 * 1024 * 1024;
const MAX_REASON = 64 * 1024;

export class ApiConnection implements Disposable {
  readonly #access: ApiAccess;
  readonly #signal: AbortSignal;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });

  /** Whatever is under way ends with `signal`. */
  constructor(access: ApiAccess, signal: AbortSignal) {
    this.#access = access;
    this.#signal = signal;
  }

  /** The answer's body. Throws ApiRefusal, and what sockets throw. */
  async call(asked: ApiRequest): Promise<unknown> {
    const response = await this.#send(asked, AbortSignal.any([this.#signal, AbortSignal.timeout(CALL_MS)]));
    return asJson(await readText(response, MAX_ANSWER));
  }

  /** Each line, until the server ends it in order or `take` answers false. Throws as `call` does. */
  async lines(asked: ApiRequest, take: (line: unknown) => boolean): Promise<void> {
    const stop = new AbortController();
    const response = await this.#send(asked, AbortSignal.any([this.#signal, stop.signal]));
    response.setEncoding('utf8');
    let line = '';
    try {
      for await (const chunk of response) {
        const parts = `${line}${chunk}`.split('\n');
        line = parts.pop() ?? '';
        for (const one of parts) if (one !== '' && !take(asJson(one))) return;
        if (line.length > MAX_LINE)
          throw new Error(`a line of the watch is longer than ${MAX_LINE} characters`);
      }
    } finally {
      stop.abort();
    }
  }

  /** Once it answers well. */
  async #send(asked: ApiRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const options = await this.#access.apply();
    const response = await this.#exchange(asked, options, signal).catch((error: unknown) => {
      // The server closed a connection that was kept, just when it was used again.
      if (!(error instanceof Reused)) throw error;
      return this.#exchange(asked, { ...options, agent: false }, signal);
    });
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    throw new ApiRefusal(status, await readText(response, MAX_REASON).catch(() => ''));
  }

  #exchange(asked: ApiRequest, given: RequestOptions, signal: AbortSignal): Promise<IncomingMessage> {
    const { method, path, query = {}, body, contentType = 'application/json' } = asked;
    const url = new URL(this.#access.server);
    url.pathname = `${url.pathname.replace(/\/$/, '')}${path}`;
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(value));
    const sent = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const headers = {
      ...given.headers,
      accept: 'application/json',
      'user-agent': 'vl3-agent',
      ...(sent === undefined ? {} : { 'content-type': contentType, 'content-length': sent.length }),
    };
    const options = { agent: this.#agent, ...given, method, headers, signal };
    return new Promise((resolve, reject) => {
      const asking = request(url, options);
      asking.setTimeout(SILENCE_MS, () => asking.destroy(new Error('it says nothing any more')));
      asking.once('response', resolve);
      asking.once('error', (error: NodeJS.ErrnoException) => {
        const isStale = asking.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        reject(isStale ? new Reused() : told(error));
      });
      asking.end(sent);
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

class Reused extends Error {}

/** Of several addresses that were tried, Node says nothing in the message. */
const told = (error: NodeJS.ErrnoException): Error =>
  error.message === '' ? new Error(error.code ?? 'it cannot be reached', { cause: error }) : error;

/** A proxy in between may answer in words of its own. */
const asJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`its answer is not JSON but begins with "${text.slice(0, 40)}"`);
  }
};

const readText = async (response: IncomingMessage, most: number): Promise<string> => {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += chunk.length;
    if (size > most) throw new Error(`its answer is longer than ${most} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
};
