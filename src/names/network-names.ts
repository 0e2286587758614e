// The names of one network on this node: what is attached here, and what other nodes say of theirs, served to the network's
// pods at this node's gateway addresses. Works from what the agent knows: without a registry it goes on.

import type { Logger } from 'pino';
import { type Address, type Prefix, parseAddress } from '../../native-free/ipam/prefix.ts';
import { answer, type Zone } from '../../native-free/names/answer.ts';
import { type NamedAddresses, NameTable } from '../../native-free/names/name-table.ts';
import { nameOf } from '../../native-free/names/own-names.ts';
import type { AttachmentDocument } from '../../native-free/reconcile/documents.ts';
import { NameServer } from './name-server.ts';

export interface NetworkNamesOptions {
  readonly node: string;
  readonly network: string;
  /** Path of its router namespace. */
  readonly netns: string;
}

export interface NetworkNamesDeps {
  readonly pools: () => readonly Prefix[];
  readonly gateways: () => readonly Address[];
  readonly attachments: () => readonly AttachmentDocument[];
  /** Milliseconds that only grow. */
  readonly now: () => number;
  readonly logger: Logger;
}

/** A socket that could not be opened is tried again after this long. */
const RETRY_MS = 1_000;

export class NetworkNames implements AsyncDisposable {
  readonly #options: NetworkNamesOptions;
  readonly #deps: NetworkNamesDeps;
  readonly #table = new NameTable();
  readonly #server: NameServer;
  #problem = '';
  #lookAt = 0;

  constructor(options: NetworkNamesOptions, deps: NetworkNamesDeps) {
    const { network, netns } = options;
    const { now, logger } = deps;
    this.#options = options;
    this.#deps = deps;
    this.#server = new NameServer(
      { netns },
      {
        answer: (query, transport) => answer(query, this.#zone, transport),
        now,
        onError: (error) => logger.warn({ err: error, network }, 'a socket for names was lost'),
      },
    );
  }

  get problems(): string[] {
    return this.#problem === '' ? [] : [this.#problem];
  }

  get #zone(): Zone {
    const { pools, gateways } = this.#deps;
    return { network: this.#options.network, pools: pools(), gateways: gateways(), names: this.#table };
  }

  /** What is attached here has changed. */
  attachmentsChanged(): void {
    this.#table.set(this.#options.node, ownNames(this.#deps.attachments()));
  }

  /** Serves at the gateway addresses as they are now; the router has to stand. To be called several times a second. */
  tick(): void {
    const at = this.#deps.now();
    if (at < this.#lookAt) return;
    this.#lookAt = at + RETRY_MS;
    try {
      this.#server.serve(this.#deps.gateways());
      this.#problem = '';
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#problem === '')
        this.#deps.logger.warn({ network: this.#options.network, reason }, 'names are not served');
      this.#problem = `names are not served: ${reason}`;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

const ownNames = (attachments: readonly AttachmentDocument[]): NamedAddresses[] =>
  attachments.flatMap((attachment) => {
    const name = nameOf(attachment);
    const isThere = attachment.ready && !attachment.isLeaving;
    return name === undefined || !isThere
      ? []
      : [{ name, addresses: attachment.addresses.map(parseAddress) }];
  });
