// What keeps attachments as they were asked for: after a start, after somebody removed an interface, after a namespace went.

import type { Logger } from 'pino';
import type { AttachmentDocument } from '../../native-free/reconcile/documents.ts';
import { ATTACHMENT } from '../../native-free/reconcile/documents.ts';
import type { Membership } from './membership.ts';
import type { PodInterfaces } from './pod-interfaces.ts';
import type { AgentState } from './state.ts';
import type { Wishes } from './wishes.ts';

export interface UpkeepDeps {
  readonly state: AgentState;
  readonly logger: Logger;
  readonly interfaces: PodInterfaces;
  readonly member: (network: string) => Membership | undefined;
  /** Of the namespace at a path; undefined when there is none. */
  readonly identity: (path: string) => Promise<string | undefined>;
  readonly isBusy: (network: string) => boolean;
  /** Runs `work` when nothing else is done with the attachment. */
  readonly inTurn: <T>(one: AttachmentDocument, work: () => Promise<T>) => Promise<T>;
  readonly remove: (id: string) => Promise<unknown>;
}

export class Upkeep {
  readonly #wishes: Wishes;
  readonly #deps: UpkeepDeps;

  constructor(wishes: Wishes, deps: UpkeepDeps) {
    this.#wishes = wishes;
    this.#deps = deps;
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

  /** Makes the interfaces anew that somebody removed in their pods, and what was left unfinished. Run now and then. */
  async mend(network: string): Promise<void> {
    const { member, isBusy, logger } = this.#deps;
    const membership = member(network);
    if (membership === undefined) return;
    const attachments = membership.attachments();
    const missing = await membership.router.missing(attachments.filter((one) => one.ready));
    for (const one of [...missing, ...attachments.filter((one) => !one.ready)]) {
      if (isBusy(network)) continue;
      logger.warn({ network, attachment: one.id, workload: one.workload }, 'interface is not there');
      await this.#repair(membership, one);
    }
  }

  /** Detaches what belongs to namespaces that are gone or was not detached to the end, and forgets wishes. Run now and then. */
  async sweep(): Promise<void> {
    const { state, identity, logger } = this.#deps;
    const all = [...state.list(ATTACHMENT).map(({ value }) => value), ...this.#wishes.all];
    for (const one of all) {
      const { id, network, workload } = one;
      const isLeaving = 'isLeaving' in one && one.isLeaving;
      if (!isLeaving && (await identity(one.netns)) === one.netnsId) continue;
      if (!isLeaving) logger.info({ network, attachment: id, workload }, 'namespace is gone');
      await this.#deps.remove(id);
    }
  }

  async #repair(membership: Membership, attachment: AttachmentDocument): Promise<void> {
    const { state, interfaces, identity, inTurn, remove, logger } = this.#deps;
    const { id, network, netns, netnsId } = attachment;
    try {
      const isWanted = !attachment.isLeaving && (await identity(netns)) === netnsId;
      if (!isWanted) return void (await remove(id));
      await inTurn(attachment, async () => {
        const present = state.get(ATTACHMENT, id);
        if (present?.isLeaving === false) await interfaces.make(membership, present);
      });
    } catch (error) {
      logger.error({ err: error, attachment: id, network }, 'attachment could not be repaired');
    }
  }
}
