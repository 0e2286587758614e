// Tells the registry what this node is on one network: its signed record, and its attachments with their signed names. Both
// are desired state: whatever changed is sent whole, again and again until the registry has taken it, and anew when the SVID
// is.

import type { Logger } from 'pino';
import type { Vl3Error } from '../../native-free/error.ts';
import { Announcements } from '../../native-free/reconcile/announcements.ts';
import type { AttachmentDocument } from '../../native-free/reconcile/documents.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { fromConnectError } from '../api/errors.ts';
import type { AttestationContent, RecordContent } from '../identity/record-signer.ts';
import type { AgentClient } from '../registry/client.ts';
import { Backoff } from './backoff.ts';
import type { Refused } from './verdicts.ts';

type Content = Omit<RecordContent, 'sequence'>;

export interface AnnouncerOptions {
  /** As its registry calls it. */
  readonly network: string;
  /** As this node does. */
  readonly key: string;
  /** What the record says, but for the sequence that each new one gets. */
  readonly content: () => Content;
  readonly attachments: () => AttachmentDocument[];
  /** The signed names of the attachments. */
  readonly names: () => SignedRecord;
  /** As the home has it. */
  readonly networkUid: string;
  /** Whose the network is. */
  readonly home: string;
  /** The registry was told of these attachments, and refused some. */
  readonly onDecided: (asked: readonly string[], refused: readonly Refused[]) => void;
  /** A sequence above all that were used, written down before it is returned. */
  readonly nextSequence: () => number;
}

export interface AnnouncerDeps {
  readonly client: () => AgentClient;
  /** Changes when the SVID is renewed: records are then signed anew. */
  readonly svidId: () => string;
  /** Signs what is attached, where a signer apart decides by it. */
  readonly attest: (
    content: Omit<AttestationContent, 'sequence'>,
    nextSequence: () => number,
  ) => SignedRecord | undefined;
  /** Signs with the node's SVID; the record holds as long as that does. */
  readonly sign: (content: RecordContent) => SignedRecord;
  readonly logger: Logger;
}

const CALL_TIMEOUT_MS = 10_000;

export class Announcer {
  readonly #options: AnnouncerOptions;
  readonly #deps: AnnouncerDeps;
  readonly #announcements: Announcements<Content>;
  readonly #backoff = new Backoff({ firstMs: 250, capMs: 15_000 });
  #wake: (() => void) | undefined;
  /** Undefined while nothing is due, a failure is waited out, or nobody runs this. */
  #saying: PromiseWithResolvers<void> | undefined;
  #problem: Vl3Error | undefined;

  constructor(options: AnnouncerOptions, deps: AnnouncerDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#announcements = new Announcements({ content: options.content, svidId: deps.svidId });
  }

  get problems(): string[] {
    return this.#problem === undefined
      ? []
      : [`the registry did not take what this node announced: ${this.#problem.message}`];
  }

  /** Resolves once the registry has taken what is due, or has not: then it is tried again, some time. */
  get said(): Promise<void> {
    return this.#saying?.promise ?? Promise.resolve();
  }

  /** The record may have to change. */
  announce(): void {
    this.#announcements.recordMayChange();
    this.#wake?.();
  }

  attachmentsChanged(): void {
    this.#announcements.attachmentsChanged();
    this.#wake?.();
  }

  /** The registry may have forgotten what it was told: says everything again. */
  sayAgain(): void {
    this.#announcements.sayAgain();
    this.#wake?.();
  }

  /** The registry answers again: what it has not taken is not kept back any longer. */
  registryIsBack(): void {
    this.#backoff.hurry();
  }

  /** Sends what is due until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const reasons = new RepeatedReasons();
    while (!signal.aborted) {
      this.#saying ??= Promise.withResolvers();
      try {
        await this.#sendDue(signal);
        this.#problem = undefined;
        this.#backoff.reset();
        await this.#untilDue(signal);
      } catch (error) {
        this.#rest();
        if (signal.aborted) return;
        this.#problem = fromConnectError(error);
        const { code, message: reason } = this.#problem;
        const again = reasons.take(reason, performance.now());
        if (again !== undefined)
          this.#deps.logger.warn({ network: this.#options.key, code, reason, again }, 'announcement failed');
        await this.#backoff.wait(signal);
      }
    }
    this.#rest();
  }

  #rest(): void {
    this.#saying?.resolve();
    this.#saying = undefined;
  }

  async #sendDue(signal: AbortSignal): Promise<void> {
    const call = { signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]) };
    for (let due = this.#announcements.next(); due !== undefined; due = this.#announcements.next()) {
      try {
        if (due.kind === 'record') await this.#sendRecord(due.content, call);
        else await this.#sendAttachments(call);
        this.#announcements.taken(due);
      } catch (error) {
        this.#announcements.failed(due);
        throw error;
      }
    }
  }

  async #sendRecord(content: Content, call: { signal: AbortSignal }): Promise<void> {
    const { client, sign, logger } = this.#deps;
    const { network } = this.#options;
    const sequence = this.#options.nextSequence();
    const { record, signature, certificateChain } = sign({ ...content, sequence });
    const signed = { record, signature, certificateChain: [...certificateChain] };
    await client().putRecord({ network, record: signed }, call);
    logger.info(
      { network: this.#options.key, sequence, endpoints: content.endpoints.length },
      'record announced',
    );
  }

  async #sendAttachments(call: { signal: AbortSignal }): Promise<void> {
    const { network } = this.#options;
    const attachments = this.#options
      .attachments()
      .map(({ id, workload, addresses, interfaceName, labels, attachedAt, pod, asserted }) => ({
        id,
        network,
        workload,
        addresses,
        interfaceName,
        labels,
        namespace: pod?.namespace ?? asserted?.namespace ?? '',
        serviceAccount: pod?.serviceAccount ?? asserted?.serviceAccount ?? '',
        attachedAt: { seconds: BigInt(Math.floor(attachedAt / 1000)), nanos: 0 },
      }));
    const { record, signature, certificateChain } = this.#options.names();
    const names = { record, signature, certificateChain: [...certificateChain] };
    const attested = this.#deps.attest(
      {
        network,
        networkUid: this.#options.networkUid,
        home: this.#options.home,
        attachments: attachments.map(({ workload, namespace, serviceAccount, labels, addresses }) => ({
          ...{ workload, namespace, serviceAccount, labels, addresses },
        })),
      },
      this.#options.nextSequence,
    );
    const told = {
      ...{ network, attachments, names },
      ...(attested && {
        attestation: { ...attested, certificateChain: [...attested.certificateChain] },
      }),
    };
    const { refused } = await this.#deps.client().putAttachments(told, call);
    this.#options.onDecided(
      attachments.map(({ id }) => id),
      refused,
    );
  }

  #untilDue(signal: AbortSignal): Promise<void> {
    if (this.#announcements.isDue || signal.aborted) return Promise.resolve();
    this.#rest();
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        this.#saying = Promise.withResolvers();
        resolve();
      };
      signal.addEventListener('abort', done);
      this.#wake = done;
    });
  }
}
