// The other end of the agent's local API, for the CLI.

import { request as httpRequest } from 'node:http';
import type { z } from 'zod';
import { ERROR_CODES, type ErrorCode, Vl3Error } from '../../native-free/error.ts';
import {
  type AgentStatus,
  attachmentSchema,
  attachmentsResponseSchema,
  detachResponseSchema,
  errorResponseSchema,
  type LocalAttachment,
  type LocalStockPeer,
  type MadeStockPeer,
  madeStockPeerSchema,
  statusSchema,
  stockPeersResponseSchema,
} from './local-messages.ts';
import type { AttachRequest, DetachRequest, StockPeerName, StockPeerRequest } from './local-requests.ts';

const codeOf = (text: string): ErrorCode => ERROR_CODES.find((code) => code === text) ?? 'internal';

export class LocalClient {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  attach(request: AttachRequest, signal?: AbortSignal): Promise<LocalAttachment> {
    return this.#call('POST', '/v1/attach', attachmentSchema, request, signal);
  }

  async detach(request: DetachRequest): Promise<LocalAttachment[]> {
    return (await this.#call('POST', '/v1/detach', detachResponseSchema, request)).detached;
  }

  async attachments(): Promise<LocalAttachment[]> {
    return (await this.#call('GET', '/v1/attachments', attachmentsResponseSchema)).attachments;
  }

  createStockPeer(request: StockPeerRequest, signal?: AbortSignal): Promise<MadeStockPeer> {
    return this.#call('POST', '/v1/stock-peers', madeStockPeerSchema, request, signal);
  }

  async stockPeers(): Promise<LocalStockPeer[]> {
    return (await this.#call('GET', '/v1/stock-peers', stockPeersResponseSchema)).peers;
  }

  /** Undefined: there was none. */
  async removeStockPeer(request: StockPeerName): Promise<LocalStockPeer | undefined> {
    return (await this.#call('POST', '/v1/stock-peers/remove', stockPeersResponseSchema, request)).peers[0];
  }

  status(options: { probe: boolean }): Promise<AgentStatus> {
    return this.#call('GET', `/v1/status?probe=${options.probe}`, statusSchema);
  }

  #call<T>(
    method: string,
    path: string,
    schema: z.ZodType<T>,
    body?: unknown,
    signal?: AbortSignal,
  ): Promise<T> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise<T>((resolve, reject) => {
      const call = httpRequest(
        {
          socketPath: this.#socket,
          method,
          path,
          headers:
            bytes === undefined ? {} : { 'content-type': 'application/json', 'content-length': bytes.length },
          ...(signal === undefined ? {} : { signal }),
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            try {
              const answer: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
              if (response.statusCode === 200) return resolve(schema.parse(answer));
              const { code, message } = errorResponseSchema.parse(answer);
              reject(new Vl3Error(codeOf(code), message));
            } catch (cause) {
              reject(
                new Vl3Error(
                  'internal',
                  `the agent on ${this.#socket} gave an answer that cannot be read: if vl3 was upgraded, restart the agent`,
                  {
                    cause,
                  },
                ),
              );
            }
          });
        },
      );
      call.on('error', (cause) => {
        if (signal?.aborted) return reject(cause);
        reject(this.#unreachable(cause));
      });
      call.end(bytes);
    });
  }

  #unreachable(cause: Error): Vl3Error {
    const isForbidden = 'code' in cause && (cause.code === 'EACCES' || cause.code === 'EPERM');
    return isForbidden
      ? new Vl3Error('permission-denied', `the agent's socket ${this.#socket} is root's: run this as root`, {
          cause,
        })
      : new Vl3Error(
          'unavailable',
          `no agent answers on ${this.#socket}: start one with "vl3 agent run", or name its socket with --socket`,
          { cause },
        );
  }
}
