// The agent's local API: JSON over HTTP/1 on a unix socket that only root can open. It parses, calls, answers;
// what attaching means is attachments.ts.

import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import type { z } from 'zod';
import { type ErrorCode, Vl3Error } from '../../native-free/error.ts';
import type { Cni } from '../cni/cni.ts';
import { addRequestSchema, checkRequestSchema, delRequestSchema, gcRequestSchema } from '../cni/requests.ts';
import { makeDirectory } from '../make-directory.ts';
import type { AgentStatus, LocalAttachment } from './local-messages.ts';
import {
  type AttachRequest,
  attachRequestSchema,
  type DetachRequest,
  detachRequestSchema,
  stockPeerNameSchema,
  stockPeerRequestSchema,
} from './local-requests.ts';
import type { StockPeers } from './stock-peers.ts';

const MAX_BODY_BYTES = 64 * 1024;
/** Of the CNI plugin: all containers of a machine, or a pod's annotation, which may be 256 KiB before it is escaped. */
const MAX_CNI_BYTES = 4 * 1024 * 1024;

const HTTP_STATUS: Record<ErrorCode, number> = {
  'invalid-argument': 400,
  'not-found': 404,
  'already-exists': 409,
  'failed-precondition': 409,
  'permission-denied': 403,
  unauthenticated: 401,
  'resource-exhausted': 429,
  unavailable: 503,
  aborted: 409,
  internal: 500,
};

export interface LocalApiHandlers {
  attach(request: AttachRequest): Promise<LocalAttachment>;
  detach(request: DetachRequest): Promise<LocalAttachment[]>;
  attachments(): LocalAttachment[];
  readonly stockPeers: Pick<StockPeers, 'create' | 'list' | 'remove'>;
  status(options: { probe: boolean }): Promise<AgentStatus>;
  readonly cni: Pick<Cni, 'add' | 'check' | 'del' | 'gc'>;
}

const parse = <T>(schema: z.ZodType<T>, value: unknown): T => {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue?.path.join('.') || 'the request';
  throw new Vl3Error('invalid-argument', `${where}: ${issue?.message ?? 'it is malformed'}`);
};

const readJson = async (request: IncomingMessage, limit = MAX_BODY_BYTES): Promise<unknown> => {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    // What is too much is read all the same, but not kept: else the connection would be reset before the answer is read.
    if (size <= limit) chunks.push(chunk);
  }
  if (size > limit) throw new Vl3Error('invalid-argument', `a request is at most ${limit} bytes`);
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (cause) {
    throw new Vl3Error('invalid-argument', 'the request body is not JSON', { cause });
  }
};

const makeRunDirectory = (path: string): void => {
  try {
    makeDirectory(path, 0o700);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error(
      'failed-precondition',
      `cannot make the directory ${path} for the agent's socket (${reason}): choose another --run-dir`,
      { cause },
    );
  }
};

/** True when something answers on the socket. */
const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });

export class LocalApi implements AsyncDisposable {
  readonly #server: Server;
  readonly #path: string;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  /** Throws Vl3Error when the socket at `path`, if there is one, is another agent's. */
  static async mustBeFree(path: string): Promise<void> {
    const left = lstatSync(path, { throwIfNoEntry: false });
    if (left === undefined) return;
    if (!left.isSocket()) {
      throw new Vl3Error(
        'failed-precondition',
        `${path} exists and is not a socket: remove it or choose another --run-dir`,
      );
    }
    if (await answers(path)) {
      throw new Vl3Error(
        'failed-precondition',
        `another agent answers on ${path}: stop it or choose another --run-dir`,
      );
    }
  }

  /** Listens on `path` (mode 0600); a socket left by a dead agent is replaced, a living one's is not. */
  static async listen(path: string, handlers: LocalApiHandlers, logger: Logger): Promise<LocalApi> {
    makeRunDirectory(dirname(path));
    await LocalApi.mustBeFree(path);
    rmSync(path, { force: true });
    const server = createServer((request, response) => {
      void serve(request, response, handlers, logger);
    });
    server.headersTimeout = 10_000;
    server.maxConnections = 512;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) =>
        reject(
          new Vl3Error(
            'failed-precondition',
            `cannot listen on ${path} (${cause.message}): choose another --run-dir, with a short path`,
            { cause },
          ),
        ),
      );
      const before = process.umask(0o077);
      try {
        server.listen(path, resolve);
      } finally {
        process.umask(before);
      }
    });
    chmodSync(path, 0o600);
    return new LocalApi(server, path);
  }

  get path(): string {
    return this.#path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

const route = async (request: IncomingMessage, handlers: LocalApiHandlers): Promise<unknown> => {
  const url = URL.parse(request.url ?? '/', 'http://agent');
  if (url === null) throw new Vl3Error('not-found', `there is no path "${request.url}" here`);
  switch (`${request.method} ${url.pathname}`) {
    case 'POST /v1/attach':
      return await handlers.attach(parse(attachRequestSchema, await readJson(request)));
    case 'POST /v1/detach':
      return { detached: await handlers.detach(parse(detachRequestSchema, await readJson(request))) };
    case 'GET /v1/attachments':
      return { attachments: handlers.attachments() };
    case 'POST /v1/stock-peers':
      return await handlers.stockPeers.create(parse(stockPeerRequestSchema, await readJson(request)));
    case 'GET /v1/stock-peers':
      return { peers: handlers.stockPeers.list() };
    case 'POST /v1/stock-peers/remove': {
      const removed = await handlers.stockPeers.remove(parse(stockPeerNameSchema, await readJson(request)));
      return { peers: removed === undefined ? [] : [removed] };
    }
    case 'GET /v1/status':
      return await handlers.status({ probe: url.searchParams.get('probe') !== 'false' });
    case 'POST /v1/cni/add':
      return await handlers.cni.add(parse(addRequestSchema, await readJson(request, MAX_CNI_BYTES)));
    case 'POST /v1/cni/check':
      return await handlers.cni.check(parse(checkRequestSchema, await readJson(request, MAX_CNI_BYTES)));
    case 'POST /v1/cni/del':
      return await handlers.cni.del(parse(delRequestSchema, await readJson(request)).owner);
    case 'POST /v1/cni/gc':
      return await handlers.cni.gc(parse(gcRequestSchema, await readJson(request, MAX_CNI_BYTES)));
    case 'GET /v1/cni/status':
      // It listens once its networks are open.
      return {};
    default:
      throw new Vl3Error('not-found', `there is no ${request.method} ${url.pathname} here`);
  }
};

const serve = async (
  request: IncomingMessage,
  response: ServerResponse,
  handlers: LocalApiHandlers,
  logger: Logger,
): Promise<void> => {
  let status = 200;
  let body: unknown;
  try {
    body = await route(request, handlers);
  } catch (error) {
    const known = error instanceof Vl3Error;
    if (!known) logger.error({ err: error, path: request.url }, 'local API call failed');
    const code = known ? error.code : 'internal';
    status = HTTP_STATUS[code];
    body = {
      code,
      message: known ? error.message : 'the agent hit an unexpected error; its log has the details',
    };
  }
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length });
  response.end(bytes);
};
