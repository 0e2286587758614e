// Tells the registry what this node is on one network: its signed record and its attachments. Both are desired state:
// whatever changed is sent whole, again and again until the registry has taken it, and anew when the SVID is.

import type { Logger } from 'pino';
import type { Vl3Error } from '../../native-free/error.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { fromConnectError } from '../api/errors.ts';
import type { RecordContent } from '../identity/record-signer.ts';
import type { AgentClient } from '../registry/client.ts';
import { Backoff } from './backoff.ts';
import type { AttachmentDocument } from './documents.ts';

export interface AnnouncerOptions {
  readonly network: string;
  /** What the record says, but for the sequence that each new one gets. */
  readonly content: () => Omit<RecordContent, 'sequence'>;
  readonly attachments: () => AttachmentDocument[];
  /** A sequence above all that were used, written down before it is returned. */
  readonly nextSequence: () => number;
}

export interface AnnouncerDeps {
  readonly client: () => AgentClient;
  /** Changes when the SVID is renewed: records are then signed anew. */
  readonly svidId: () => string;
  /** Signs with the node's SVID; the record holds as long as that does. */
  readonly sign: (content: RecordContent) => SignedRecord;
  readonly logger: Logger;
}

const CALL_TIMEOUT_MS = 10_000;

export class Announcer {
  readonly #options: AnnouncerOptions;
  readonly #deps: AnnouncerDeps;
  /** What the registry took last: the content, and the certificate it was signed under. */
  #announced: string | undefined;
  #recordDue = true;
  #attachmentsDue = true;
  #wake: (() => void) | undefined;
  #problem: Vl3Error | undefined;

  constructor(options: AnnouncerOptions, deps: AnnouncerDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  get problems(): string[] {
    return this.#problem === undefined
      ? []
      : [`the registry did not take what this node announced: ${this.#problem.message}`];
  }

  /** The record may have to change. */
  announce(): void {
    this.#recordDue = true;
    this.#wake?.();
  }

  attachmentsChanged(): void {
    this.#attachmentsDue = true;
    this.#wake?.();
  }

  /** The registry may have forgotten what it was told: says everything again. */
  sayAgain(): void {
    this.#announced = undefined;
    this.#attachmentsDue = true;
    this.announce();
  }

  /** Sends what is due until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ firstMs: 250, capMs: 15_000 });
    while (!signal.aborted) {
      try {
        await this.#sendDue(signal);
        this.#problem = undefined;
        backoff.reset();
        await this.#untilDue(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#problem = fromConnectError(error);
        this.#deps.logger.warn(
          { network: this.#options.network, code: this.#problem.code, reason: this.#problem.message },
          'announcement failed',
        );
        await backoff.wait(signal);
      }
    }
  }

  async #sendDue(signal: AbortSignal): Promise<void> {
    const { network } = this.#options;
    const call = { signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]) };
    if (this.#recordDue) {
      this.#recordDue = false;
      try {
        await this.#sendRecord(call);
      } catch (error) {
        this.#recordDue = true;
        throw error;
      }
    }
    if (!this.#attachmentsDue) return;
    this.#attachmentsDue = false;
    try {
      const attachments = this.#options
        .attachments()
        .map(({ id, workload, addresses, interfaceName, labels, attachedAt }) => ({
          id,
          network,
          workload,
          addresses,
          interfaceName,
          labels,
          attachedAt: { seconds: BigInt(Math.floor(attachedAt / 1000)), nanos: 0 },
        }));
      await this.#deps.client().putAttachments({ network, attachments }, call);
    } catch (error) {
      this.#attachmentsDue = true;
      throw error;
    }
  }

  async #sendRecord(call: { signal: AbortSignal }): Promise<void> {
    const { client, sign, svidId, logger } = this.#deps;
    const content = this.#options.content();
    const text = `${svidId()} ${JSON.stringify(content)}`;
    if (this.#announced === text) return;
    const sequence = this.#options.nextSequence();
    const signed = sign({ ...content, sequence });
    await client().putRecord(
      {
        network: content.network,
        record: {
          record: signed.record,
          signature: signed.signature,
          certificateChain: [...signed.certificateChain],
        },
      },
      call,
    );
    this.#announced = text;
    logger.info(
      { network: content.network, sequence, endpoints: content.endpoints.length },
      'record announced',
    );
  }

  #untilDue(signal: AbortSignal): Promise<void> {
    if (this.#recordDue || this.#attachmentsDue || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      signal.addEventListener('abort', done);
      this.#wake = done;
    });
  }
}
