// Attachments: a workload's network namespace put on a network, and taken off. What was asked for is written down
// before anything is made and struck out after everything is gone, so that a crash at any point is repaired by
// `restore`. Which addresses there are to give is addresses.ts, how interfaces are made router.ts.

import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { type Address, formatAddress, parseAddress } from '../../native-free/ipam/prefix.ts';
import { Gate } from '../netns/gate.ts';
import { checkInterfaceName, defaultInterfaceName } from '../netns/names.ts';
import { netnsIdentity } from '../netns/namespace.ts';
import type { Tools } from '../netns/tool.ts';
import { ATTACHMENT, type AttachmentDocument } from './documents.ts';
import type { LocalAttachment } from './local-messages.ts';
import type { AttachRequest, DetachRequest } from './local-requests.ts';
import type { Membership } from './membership.ts';
import type { AgentState } from './state.ts';

export interface AttachmentsDeps {
  readonly state: AgentState;
  readonly tools: Tools;
  readonly logger: Logger;
  /** The node's membership of a network; joins it when it is not on it yet. */
  readonly join: (network: string, signal?: AbortSignal) => Promise<Membership>;
  readonly member: (network: string) => Membership | undefined;
  /** As `member`, once what is under way with the network has ended. */
  readonly settled: (network: string) => Promise<Membership | undefined>;
}

/** Interfaces made at a time: more only make each one later. */
const MADE_AT_ONCE = 4;

export class Attachments {
  readonly #deps: AttachmentsDeps;
  readonly #gate = new Gate(MADE_AT_ONCE);
  /** The last operation per attachment id, so that two on one run one after the other. */
  readonly #queues = new Map<string, Promise<unknown>>();

  constructor(deps: AttachmentsDeps) {
    this.#deps = deps;
  }

  list(): LocalAttachment[] {
    return this.#deps.state.list(ATTACHMENT).map(({ value }) => toLocal(value));
  }

  /** Attaches; asked again for the same namespace and network it answers the same. */
  async attach(request: AttachRequest, signal?: AbortSignal): Promise<LocalAttachment> {
    const interfaceName = request.interfaceName ?? defaultInterfaceName(request.network);
    checkInterfaceName(interfaceName);
    const netnsId = await this.#identity(request.netns);
    return await this.#oneAtATime(`${request.network} ${netnsId}`, async () => {
      const membership = await this.#deps.join(request.network, signal);
      const present = this.#find(request.network, netnsId);
      if (present !== undefined) {
        if (request.interfaceName !== undefined && request.interfaceName !== present.interfaceName) {
          throw new Vl3Error(
            'already-exists',
            `${request.netns} is on ${request.network} already, as ${present.interfaceName}: detach it first to rename it`,
          );
        }
        // Also when it was made before: its interface may have been removed since.
        await this.#make(membership, present);
        return toLocal({ ...present, ready: true });
      }
      const id = randomBytes(6).toString('hex');
      const attachedAt = Date.now();
      const withAddresses = (addresses: readonly Address[]): AttachmentDocument => ({
        id,
        network: request.network,
        workload: request.workload ?? `netns-${id}`,
        labels: request.labels ?? {},
        netns: request.netns,
        netnsId,
        interfaceName,
        addresses: addresses.map(formatAddress),
        ready: false,
        attachedAt,
      });
      const document = withAddresses(
        await membership.addresses.allocate(
          id,
          (addresses) => this.#deps.state.put(ATTACHMENT, id, withAddresses(addresses)),
          signal,
        ),
      );
      try {
        await this.#make(membership, document);
      } catch (error) {
        await this.#unmake(membership, document);
        throw error;
      }
      this.#deps.logger.info(
        {
          network: request.network,
          attachment: id,
          workload: document.workload,
          addresses: document.addresses,
        },
        'attached',
      );
      return toLocal({ ...document, ready: true });
    });
  }

  /** Detaches; what is not there is no error. Answers what was detached. */
  async detach(request: DetachRequest): Promise<LocalAttachment[]> {
    let found: AttachmentDocument | undefined;
    if ('id' in request) {
      found = this.#deps.state.get(ATTACHMENT, request.id);
    } else {
      const netnsId = await this.#tryIdentity(request.netns);
      const all = this.#deps.state.list(ATTACHMENT).map(({ value }) => value);
      found = all.find(
        (one) =>
          one.network === request.network &&
          (netnsId === undefined ? one.netns === request.netns : one.netnsId === netnsId),
      );
    }
    return found === undefined ? [] : await this.#remove(found);
  }

  /** After a start: repairs what should be there and drops what belongs to namespaces that are gone. */
  async restore(network: string): Promise<void> {
    const membership = this.#deps.member(network);
    if (membership === undefined) return;
    const attachments = membership.attachments();
    await membership.router.dropStrangers(attachments);
    // As of now: others may have come meanwhile.
    membership.addresses.freeStrangers(new Set(membership.attachments().map(({ id }) => id)));
    await Promise.all(attachments.map((one) => this.#repair(membership, one)));
  }

  /** Whether something is being attached to the network, or detached. */
  isBusy(network: string): boolean {
    return [...this.#queues.keys()].some((key) => key.startsWith(`${network} `));
  }

  /** Makes the interfaces anew that somebody removed in their pods. Run now and then. */
  async mend(network: string): Promise<void> {
    const membership = this.#deps.member(network);
    if (membership === undefined) return;
    const ready = membership.attachments().filter((one) => one.ready);
    for (const one of await membership.router.missing(ready)) {
      if (this.isBusy(network) || this.#deps.state.get(ATTACHMENT, one.id) === undefined) continue;
      this.#deps.logger.warn({ network, attachment: one.id, workload: one.workload }, 'interface was gone');
      await this.#repair(membership, one);
    }
  }

  async #repair(membership: Membership, attachment: AttachmentDocument): Promise<void> {
    const { id, network, netns, netnsId } = attachment;
    try {
      if ((await this.#tryIdentity(netns)) !== netnsId) await this.#remove(attachment);
      else await this.#oneAtATime(`${network} ${netnsId}`, () => this.#make(membership, attachment));
    } catch (error) {
      this.#deps.logger.error({ err: error, attachment: id, network }, 'attachment could not be repaired');
    }
  }

  /** Detaches what belongs to namespaces that are gone. Run now and then. */
  async sweep(): Promise<void> {
    for (const { value } of this.#deps.state.list(ATTACHMENT)) {
      if ((await this.#tryIdentity(value.netns)) === value.netnsId) continue;
      this.#deps.logger.info(
        { network: value.network, attachment: value.id, workload: value.workload },
        'namespace is gone',
      );
      await this.#remove(value);
    }
  }

  async #make(membership: Membership, document: AttachmentDocument): Promise<void> {
    await this.#gate.pass(() => membership.router.connect(document));
    if (document.ready) return;
    this.#deps.state.put(ATTACHMENT, document.id, { ...document, ready: true });
    membership.attachmentsChanged();
  }

  async #remove(document: AttachmentDocument): Promise<LocalAttachment[]> {
    return await this.#oneAtATime(`${document.network} ${document.netnsId}`, async () => {
      if (this.#deps.state.get(ATTACHMENT, document.id) === undefined) return [];
      await this.#unmake(await this.#deps.settled(document.network), document);
      this.#deps.logger.info(
        { network: document.network, attachment: document.id, workload: document.workload },
        'detached',
      );
      return [toLocal(document)];
    });
  }

  /** Whatever it is cut off at, the attachment can be made or unmade again, and nobody else gets its addresses before. */
  async #unmake(membership: Membership | undefined, document: AttachmentDocument): Promise<void> {
    const { state } = this.#deps;
    const { id, addresses } = document;
    await membership?.router.disconnect(document);
    const strike = (): void => state.delete(ATTACHMENT, id);
    if (membership === undefined) strike();
    else membership.addresses.free(id, addresses.map(parseAddress), strike);
    membership?.attachmentsChanged();
  }

  #find(network: string, netnsId: string): AttachmentDocument | undefined {
    return this.#deps.state
      .list(ATTACHMENT)
      .map(({ value }) => value)
      .find((one) => one.network === network && one.netnsId === netnsId);
  }

  async #identity(path: string): Promise<string> {
    const { dev, ino } = await netnsIdentity(this.#deps.tools, path);
    return `${dev}:${ino}`;
  }

  /** Undefined when nothing, or no namespace, is at the path. */
  #tryIdentity(path: string): Promise<string | undefined> {
    return this.#identity(path).catch(() => undefined);
  }

  async #oneAtATime<T>(key: string, operation: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(key) ?? Promise.resolve();
    const mine = before.then(operation, operation);
    this.#queues.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#queues.get(key) === mine) this.#queues.delete(key);
    }
  }
}

const toLocal = ({
  id,
  network,
  workload,
  interfaceName,
  addresses,
  labels,
  netns,
  ready,
}: AttachmentDocument): LocalAttachment => ({
  id,
  network,
  workload,
  interfaceName,
  addresses,
  labels,
  netns,
  ready,
});
