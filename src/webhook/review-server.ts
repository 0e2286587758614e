// The HTTPS server that API servers send AdmissionReviews to. Whoever reaches the port may send anything: bodies are bounded,
// one by one and together, what takes too long is ended, and what is no review is answered as HTTP has it. What a review
// means is decided by native-free/kube/admission.
//
//   1. method, path, type and length are looked at before anything is read
//   2. the body is read, as far as there is room
//   3. it is understood, judged and answered

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { Vl3Error } from '../../native-free/error.ts';
import { formatHostPort, type HostPort } from '../../native-free/host-port.ts';
import type { Verdict } from '../../native-free/kube/admission.ts';
import { answerTo, NOTHING, type Review, readReview } from '../../native-free/kube/admission-review.ts';
import { isHeavyJson } from '../../native-free/kube/json-weight.ts';
import type { ServingCertificate } from './serving-certificate.ts';

export interface ReviewServerDeps {
  readonly judge: (review: Extract<Review, { kind: 'admitted' }>) => Verdict;
  /** Something that was not foreseen. */
  readonly failed: (error: unknown) => void;
  /** For a whole request to come in, ms. */
  readonly requestMs?: number;
}

type Result = 'allowed' | 'warned' | 'refused' | 'other' | 'malformed';

export const REVIEW_PATH = '/validate';
/** An object and what it replaces, each of at most the 3 MB that API servers take. */
const MAX_BODY_BYTES = 7 << 20;
/** Of bodies that are being read at one time. */
const MAX_READING_BYTES = 64 << 20;
/** Several times those of the largest objects; parsed they take some 40 MB at worst. */
const MAX_VALUES = 200_000;
const MAX_CONNECTIONS = 512;
const REQUEST_MS = 5_000;
/** Longer than API servers keep a connection that they do not use, so that none ends as a call sets out on it. */
const IDLE_MS = 120_000;
const CLOSE_MS = 5_000;

/** What is answered when it is no review. */
class Refusal extends Error {
  readonly status: number;
  constructor(status: number, sentence: string) {
    super(sentence);
    this.status = status;
  }
}

export class ReviewServer implements AsyncDisposable {
  readonly counts: Readonly<Record<Result, number>>;
  /** Told how long each answer took, in seconds. */
  onDone: (seconds: number) => void = () => {};
  readonly #counts: Record<Result, number> = { allowed: 0, warned: 0, refused: 0, other: 0, malformed: 0 };
  readonly #deps: ReviewServerDeps;
  readonly #server: Server;
  #reading = 0;

  /** Nobody can connect before a certificate is shown. Throws Vl3Error('failed-precondition'). */
  static async open(at: HostPort, deps: ReviewServerDeps): Promise<ReviewServer> {
    const opened = new ReviewServer(deps);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    opened.#server.once('error', reject).listen({ host: at.host, port: at.port }, resolve);
    try {
      await promise;
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
      const why = code === 'EADDRINUSE' ? 'is taken by another program' : `cannot be listened on (${code})`;
      const sentence = `${formatHostPort(at)} ${why}: choose another --listen`;
      throw new Vl3Error('failed-precondition', sentence, { cause });
    }
    return opened;
  }

  private constructor(deps: ReviewServerDeps) {
    this.#deps = deps;
    this.counts = this.#counts;
    const { requestMs = REQUEST_MS } = deps;
    const limits = { requestTimeout: requestMs, headersTimeout: requestMs, handshakeTimeout: requestMs };
    const others = { connectionsCheckingInterval: 500, keepAliveTimeout: IDLE_MS, maxHeaderSize: 16_384 };
    this.#server = createServer({ minVersion: 'TLSv1.3', ...limits, ...others }, (request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        deps.failed(error);
        response.destroy();
      });
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  /** To who connects from now on; who is connected stays so. */
  show({ key, certificate }: ServingCertificate): void {
    this.#server.setSecureContext({ key, cert: certificate, minVersion: 'TLSv1.3' });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const began = performance.now();
    try {
      expectReview(request);
      const bytes = await this.#read(request);
      if (bytes === undefined) return;
      // It is closing: a connection that is kept would hold it up.
      if (!this.#server.listening) response.setHeader('connection', 'close');
      const review = readReview(parse(bytes));
      if (review.kind === 'malformed') throw new Refusal(400, `this is no ${review.problem}`);
      const verdict = review.kind === 'other' ? NOTHING : this.#deps.judge(review);
      send(response, 200, 'application/json', JSON.stringify(answerTo(review.uid, verdict)));
      this.#counts[review.kind === 'other' ? 'other' : resultOf(verdict)] += 1;
      this.onDone((performance.now() - began) / 1000);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#counts.malformed += 1;
      // What is not read does not end by itself: the connection does.
      if (!request.complete) response.setHeader('connection', 'close');
      if (error.status === 405) response.setHeader('allow', 'POST');
      send(response, error.status, 'text/plain; charset=utf-8', `${error.message}\n`);
      request.resume();
    }
  }

  /** Undefined: whoever sent it has gone. */
  async #read(request: IncomingMessage): Promise<Uint8Array | undefined> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    try {
      // Not ended with the loop: who sent too much shall read why.
      for await (const chunk of request.iterator({ destroyOnReturn: false })) {
        if (!(chunk instanceof Uint8Array)) continue;
        length += chunk.length;
        this.#reading += chunk.length;
        if (length > MAX_BODY_BYTES) throw tooLarge();
        if (this.#reading > MAX_READING_BYTES)
          throw new Refusal(503, 'too much is being read at once: try again');
        chunks.push(chunk);
      }
    } catch (error) {
      if (error instanceof Refusal) throw error;
      return undefined;
    } finally {
      this.#reading -= length;
    }
    return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
  }

  /** Calls that are under way are answered, if they end soon. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const end = setTimeout(() => this.#server.closeAllConnections(), CLOSE_MS);
    await closed;
    clearTimeout(end);
  }
}

const expectReview = ({ method, url, headers }: IncomingMessage): void => {
  const path = url?.split('?')[0];
  if (path !== REVIEW_PATH) throw new Refusal(404, `there is ${REVIEW_PATH} only`);
  if (method !== 'POST') throw new Refusal(405, 'use POST');
  const type = headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') throw new Refusal(415, 'send application/json');
  if (headers['content-encoding'] !== undefined) throw new Refusal(415, 'send it as it is, not encoded');
  if (Number(headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooLarge();
};

const tooLarge = (): Refusal => new Refusal(413, `send at most ${MAX_BODY_BYTES} bytes`);

const parse = (bytes: Uint8Array): unknown => {
  if (isHeavyJson(bytes, MAX_VALUES)) throw new Refusal(413, `send at most ${MAX_VALUES} values`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new Refusal(400, 'this is no JSON in UTF-8');
  }
};

const resultOf = ({ refusal, warnings }: Verdict): Result =>
  refusal !== undefined ? 'refused' : warnings.length > 0 ? 'warned' : 'allowed';

const send = (response: ServerResponse, status: number, type: string, text: string): void => {
  const headers = { 'content-type': type, 'content-length': Buffer.byteLength(text) };
  response.writeHead(status, headers).end(text);
};
