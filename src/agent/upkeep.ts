// What keeps attachments as they were asked for: after a start, after somebody removed an interface, after a namespace went.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import {
  ATTACHMENT,
  type AttachmentDocument,
  type WishDocument,
} from '../../native-free/reconcile/documents.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import type { Membership } from './membership.ts';
import type { PodInterfaces } from './pod-interfaces.ts';
import type { AgentState } from './state.ts';
import type { Wishes } from './wishes.ts';

export interface UpkeepDeps {
  readonly state: AgentState;
  readonly logger: Logger;
  readonly clock: { readonly monotonic: () => number };
  readonly interfaces: PodInterfaces;
  readonly member: (network: string) => Membership | undefined;
  /** Of the namespace at a path; undefined when there is none. */
  readonly identity: (path: string) => Promise<string | undefined>;
  readonly isBusy: (network: string) => boolean;
  /** Runs `work` when nothing else is done with the attachment. */
  readonly inTurn: <T>(one: AttachmentDocument, work: () => Promise<T>) => Promise<T>;
  readonly remove: (id: string) => Promise<unknown>;
}

/** Of what could not be done, each by attachment and words. */
const MAX_REASONS = 1024;

export class Upkeep {
  readonly #wishes: Wishes;
  readonly #deps: UpkeepDeps;
  readonly #reasons = new RepeatedReasons(MAX_REASONS);
  /** By attachment, what is wrong with it in a sentence. */
  readonly #problems = new Map<string, string>();

  constructor(wishes: Wishes, deps: UpkeepDeps) {
    this.#wishes = wishes;
    this.#deps = deps;
  }

  /** Sentences about interfaces that are not as they were asked for, and why; each is tried again. */
  get problems(): string[] {
    const { state } = this.#deps;
    for (const id of this.#problems.keys())
      if (state.get(ATTACHMENT, id) === undefined) this.#problems.delete(id);
    return [...this.#problems.values()];
  }

  /** What was asked for and is not attached, and whether its network's rules refused it. */
  get waiting(): { readonly network: string; readonly isRefused: boolean }[] {
    return this.#wishes.all.map(({ id, network }) => ({ network, isRefused: this.#wishes.isRefused(id) }));
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
    const missing = await membership.router.missing(
      attachments.filter((one) => one.ready && one.stockPeer === undefined),
    );
    for (const one of [...missing, ...attachments.filter((one) => !one.ready)]) {
      if (isBusy(network)) continue;
      if (!this.#problems.has(one.id))
        logger.warn({ network, attachment: one.id, workload: one.workload }, 'interface is not there');
      await this.#repair(membership, one);
    }
  }

  /** Detaches what belongs to namespaces that are gone or was not detached to the end, and forgets wishes. Run now and then. */
  async sweep(): Promise<void> {
    const { state, identity, logger } = this.#deps;
    const all: (AttachmentDocument | WishDocument)[] = [
      ...state.list(ATTACHMENT).map(({ value }) => value),
      ...this.#wishes.all,
    ];
    for (const one of all) {
      const { id, network, workload } = one;
      const isLeaving = 'isLeaving' in one && one.isLeaving;
      if (!isLeaving && (await identity(one.netns)) === one.netnsId) continue;
      if (!isLeaving && !this.#problems.has(id))
        logger.info({ network, attachment: id, workload }, 'namespace is gone');
      await this.#try(one, 'cannot be taken off', () => this.#deps.remove(id));
    }
  }

  async #repair(membership: Membership, attachment: AttachmentDocument): Promise<void> {
    const { state, interfaces, identity, inTurn, remove } = this.#deps;
    const { id, netns, netnsId } = attachment;
    const isWanted = !attachment.isLeaving && (await identity(netns)) === netnsId;
    if (!isWanted) return await this.#try(attachment, 'cannot be taken off', () => remove(id));
    await this.#try(attachment, 'has no interface, and it cannot be made', () =>
      inTurn(attachment, async () => {
        const present = state.get(ATTACHMENT, id);
        if (present?.isLeaving === false) await interfaces.make(membership, present);
      }),
    );
  }

  /** What fails is a problem until it succeeds, and holds up nothing else. `what` is said of the workload. */
  async #try(
    { id, network, workload }: AttachmentDocument | WishDocument,
    what: string,
    work: () => Promise<unknown>,
  ): Promise<void> {
    const { logger, clock } = this.#deps;
    const about = { network, attachment: id, workload };
    try {
      await work();
      if (this.#problems.delete(id)) logger.info(about, 'repaired');
    } catch (error) {
      const isExpected = error instanceof Vl3Error;
      const message = error instanceof Error ? error.message : String(error);
      this.#problems.set(id, `network ${network}: ${workload} ${what} (it is tried again): ${message}`);
      const again = this.#reasons.take(`${id} ${what} ${message}`, clock.monotonic());
      if (again !== undefined)
        logger.error(
          { ...about, reason: message, again, ...(isExpected ? {} : { err: error }) },
          `workload ${what}`,
        );
    }
  }
}
