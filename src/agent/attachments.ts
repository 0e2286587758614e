// Attachments: a workload's network namespace, or a stock WireGuard peer that has none, put on a network and taken off. Long,
// since whatever happens to one takes turns with all else here. What was asked for is written down as a
// wish before anything is made, and is tried until it is attached, detached, or its namespace is gone: a network that is
// not available now holds up no other. How one is made is pod-interfaces.ts, what keeps them in order upkeep.ts.

import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { NotAdmitted, Vl3Error } from '../../native-free/error.ts';
import { parseAddress, parsePrefix, prefixContains } from '../../native-free/ipam/prefix.ts';
import {
  ATTACHMENT,
  type AttachmentDocument,
  BEING_ATTACHED,
  type Origin,
  type WishDocument,
} from '../../native-free/reconcile/documents.ts';
import { fromConnectError } from '../api/errors.ts';
import { checkInterfaceName, defaultInterfaceName } from '../netns/names.ts';
import { netnsIdentity } from '../netns/namespace.ts';
import type { Taken } from '../netns/pod-routes.ts';
import type { Tools } from '../netns/tool.ts';
import { orAborted } from './aborted.ts';
import { pause } from './backoff.ts';
import type { LocalAttachment } from './local-messages.ts';
import type { AttachRequest, DetachRequest } from './local-requests.ts';
import type { Membership } from './membership.ts';
import { mustAgree } from './must-agree.ts';
import { PodInterfaces } from './pod-interfaces.ts';
import { Queues } from './queues.ts';
import type { AgentState } from './state.ts';
import { isStockPlace } from './stock-place.ts';
import { Upkeep } from './upkeep.ts';
import type { Refused } from './verdicts.ts';
import { Wishes } from './wishes.ts';

export interface AttachmentsDeps {
  readonly state: AgentState;
  readonly tools: Tools;
  readonly logger: Logger;
  readonly clock: { readonly monotonic: () => number; readonly wall: () => number };
  /** The node's membership of a network; joins it when it is not on it yet. */
  readonly join: (network: string) => Promise<Membership>;
  readonly member: (network: string) => Membership | undefined;
  /** As `member`, once what is under way with the network has ended. */
  readonly settled: (network: string) => Promise<Membership | undefined>;
  /** What the workload in a namespace reaches outside of vl3. */
  readonly reserved: (netns: string) => Promise<Taken[]>;
  /** One is about to be made or taken off. */
  readonly onChange: () => void;
}

const DEFAULT_WAIT_MS = 10_000;
const LOOK_MS = 50;

/** What may be different in a moment; all else is refused where somebody waits for the answer. */
const PASSING: ReadonlySet<string> = new Set(['unavailable', 'aborted', 'resource-exhausted']);

/** Somebody waits for an answer. */
interface Asking {
  /** For what may pass soon. */
  until: number;
  /** The answer was given. */
  isOver: boolean;
}

export class Attachments implements AsyncDisposable {
  readonly upkeep: Upkeep;
  readonly #deps: AttachmentsDeps;
  readonly #interfaces: PodInterfaces;
  readonly #wishes: Wishes;
  /** By network and namespace. */
  readonly #queues = new Queues();
  /** Aborted when a wish is withdrawn while it is tried. */
  readonly #attempts = new Map<string, AbortController>();
  readonly #closing = new AbortController();

  constructor(deps: AttachmentsDeps) {
    const { state, logger, clock } = deps;
    this.#deps = deps;
    this.#interfaces = new PodInterfaces({ state, reserved: deps.reserved, logger });
    this.#wishes = new Wishes({ state, now: clock.monotonic });
    this.upkeep = new Upkeep(this.#wishes, {
      ...deps,
      interfaces: this.#interfaces,
      identity: (path) => this.identify(path),
      isBusy: (network) => this.isBusy(network),
      inTurn: (one, work) => this.#inTurn(one, work),
      remove: (id) => this.#remove(id),
    });
  }

  list(): LocalAttachment[] {
    return [...this.#all.map((one) => this.#toLocal(one)), ...this.pending];
  }

  /** What was asked for and is not attached, with the reason. */
  get pending(): LocalAttachment[] {
    return this.#wishes.all.map((wish) => this.#toLocal(wish));
  }

  /** All there are, pending ones as well. */
  get documents(): (AttachmentDocument | WishDocument)[] {
    return [...this.#all, ...this.#wishes.all];
  }

  /** Whether something is being attached to the network, or detached. */
  isBusy(network: string): boolean {
    return this.#queues.keys.some((key) => key.startsWith(`${network} `));
  }

  /** Whether somebody waits for being attached to the network. */
  isWanted(network: string): boolean {
    return this.#wishes.all.some((wish) => wish.network === network);
  }

  /**
   * Attaches; asked again for the same namespace and network it answers the same. What cannot be done now is answered
   * as pending after a while, and done later. Throws Vl3Error when it cannot be done at all; then nothing is left of it.
   */
  async attach(request: AttachRequest, origin: Origin = {}): Promise<LocalAttachment> {
    const { network, netns, waitMs = DEFAULT_WAIT_MS } = request;
    checkInterfaceName(request.interfaceName ?? defaultInterfaceName(network));
    const netnsId = await this.#identity(netns);
    const asking: Asking = { until: this.#deps.clock.monotonic() + waitMs, isOver: false };
    const first = this.#inTurn({ network, netnsId }, () =>
      this.#ask({ ...request, origin }, netnsId, asking),
    );
    first.catch(() => undefined);
    const patience = new AbortController();
    const id = await Promise.race([
      first,
      // Not less than what is done at once takes: who does not want to wait wants to know all the same.
      pause(Math.max(waitMs, 1_000), AbortSignal.any([patience.signal, this.#closing.signal])),
    ]).finally(() => patience.abort());
    asking.isOver = true;
    // While it waits for its turn there is not even a wish.
    return await this.#outcome(id ?? this.#find(network, netnsId)?.id ?? (await first), asking);
  }

  /** Attaches, or leaves a wish; answers its id. */
  async #ask(
    request: AttachRequest & { readonly origin: Origin },
    netnsId: string,
    asking: Asking,
  ): Promise<string> {
    const { network, netns } = request;
    const present = await this.#present(network, netnsId, netns);
    if (present !== undefined) mustAgree(request, present);
    if (present !== undefined && 'ready' in present) {
      // Also when it was made before: its interface may have been removed since.
      await this.#interfaces.make(await this.#deps.join(network), present);
      return present.id;
    }
    const id = this.#wish(request, netnsId, present);
    try {
      await this.#attempt(id);
    } catch (cause) {
      const error = fromConnectError(cause);
      const isMissing = error.code === 'not-found' && request.awaitNetwork === true;
      const mayPass = PASSING.has(error.code) || isMissing || error instanceof NotAdmitted;
      // Whoever was told that it is pending must find it, and why.
      if (!mayPass && !asking.isOver && present === undefined) {
        this.#wishes.strike(id);
        throw error;
      }
      this.#failed(id, error);
      if (error.code !== 'unavailable' && error.code !== 'aborted') asking.until = 0;
    }
    return id;
  }

  /** Writes down that it is wanted; answers its id. */
  #wish(
    { network, netns, origin, ...wanted }: AttachRequest & { readonly origin: Origin },
    netnsId: string,
    present?: WishDocument,
  ): string {
    const id = present?.id ?? randomBytes(6).toString('hex');
    this.#deps.onChange();
    this.#wishes.put({
      ...(present === undefined
        ? { ...origin, asserted: wanted.asserted }
        : {
            asserted: present.asserted,
            cni: present.cni,
            pod: present.pod,
            isConfigured: present.isConfigured,
            stockPeer: present.stockPeer,
          }),
      id,
      network,
      workload: wanted.workload ?? present?.workload ?? `netns-${id}`,
      labels: wanted.labels ?? present?.labels ?? {},
      netns,
      netnsId,
      interfaceName: wanted.interfaceName ?? present?.interfaceName ?? defaultInterfaceName(network),
      fixed: wanted.addresses ?? present?.fixed ?? [],
      preferred: present?.preferred ?? [],
      askedAt: this.#deps.clock.wall(),
      reason: BEING_ATTACHED,
    });
    return id;
  }

  /** What is there of it; what is left of an earlier one goes first. */
  async #present(
    network: string,
    netnsId: string,
    netns: string,
  ): Promise<AttachmentDocument | WishDocument | undefined> {
    const found = this.#find(network, netnsId);
    if (found === undefined || !(await this.#isLeft(found, netns))) return found;
    if ('ready' in found) await this.#takeOff(found);
    else this.#wishes.strike(found.id);
    return undefined;
  }

  /**
   * Wants it until it is attached or detached, and waits for neither; what is there of it stays as it is. `netnsId`: that
   * namespace, and no other which may be at the path by now.
   */
  async want(
    { netnsId, ...request }: Omit<AttachRequest, 'waitMs' | 'awaitNetwork'> & { readonly netnsId: string },
    origin: Origin,
  ): Promise<void> {
    const { network, netns, interfaceName } = request;
    checkInterfaceName(interfaceName ?? defaultInterfaceName(network));
    if ((await this.#identity(netns)) !== netnsId)
      throw new Vl3Error('aborted', `another network namespace is at ${netns} by now`);
    await this.#inTurn({ network, netnsId }, async () => {
      if ((await this.#present(network, netnsId, netns)) === undefined)
        this.#wish({ ...request, origin }, netnsId);
    });
    this.pursue();
  }

  /** Gives it other labels, and says by which account its pod runs; nothing else of it changes. */
  async relabel(
    id: string,
    { labels, serviceAccount }: Pick<WishDocument, 'labels'> & { readonly serviceAccount?: string },
  ): Promise<void> {
    const found = this.#get(id);
    if (found === undefined) return;
    const changed = <D extends AttachmentDocument | WishDocument>(document: D): D => ({
      ...document,
      labels: { ...labels },
      ...(document.pod !== undefined &&
        serviceAccount !== undefined && { pod: { ...document.pod, serviceAccount } }),
    });
    await this.#inTurn(found, async () => {
      const wish = this.#wishes.get(id);
      if (wish !== undefined) {
        this.#wishes.put(changed(wish));
        this.#wishes.mayBeAdmitted([id]);
      }
      const attachment = this.#deps.state.get(ATTACHMENT, id);
      if (attachment === undefined) return;
      this.#deps.state.put(ATTACHMENT, id, changed(attachment));
      this.#deps.member(attachment.network)?.attachmentsChanged();
    });
    this.pursue();
  }

  /** Being detached, or of a namespace that is gone: the kernel gives its inode to the next one at once. */
  async #isLeft(found: AttachmentDocument | WishDocument, netns: string): Promise<boolean> {
    if ('ready' in found && found.isLeaving) return true;
    return found.netns !== netns && (await this.identify(found.netns)) !== found.netnsId;
  }

  /** Once it is attached, or the time is over. */
  async #outcome(id: string, { until }: Asking): Promise<LocalAttachment> {
    for (;;) {
      const attachment = this.#deps.state.get(ATTACHMENT, id);
      const wish = this.#wishes.get(id);
      if (attachment?.ready === true) return this.#toLocal(attachment);
      if (attachment === undefined && wish === undefined)
        throw new Vl3Error('aborted', 'it was detached while it was being attached');
      if (this.#deps.clock.monotonic() >= until || this.#closing.signal.aborted) {
        if (wish !== undefined) return this.#toLocal(wish);
        if (attachment !== undefined) return this.#toLocal(attachment);
      }
      await pause(LOOK_MS, this.#closing.signal);
    }
  }

  /** Tries what is due, each on its own. Run every second. */
  pursue(): void {
    if (this.#closing.signal.aborted) return;
    for (const wish of this.#wishes.takeDue())
      void this.#inTurn(wish, () => this.#attempt(wish.id)).then(
        () => this.#wishes.tried(wish.id),
        (error: unknown) => this.#failed(wish.id, fromConnectError(error)),
      );
  }

  async #attempt(id: string): Promise<void> {
    const wish = this.#wishes.get(id);
    if (wish === undefined) return;
    if ((await this.identify(wish.netns)) !== wish.netnsId)
      throw new Vl3Error('not-found', `there is no network namespace at ${wish.netns} any more`);
    const attempt = new AbortController();
    this.#attempts.set(id, attempt);
    const signal = AbortSignal.any([attempt.signal, this.#closing.signal]);
    try {
      const membership = await orAborted(this.#deps.join(wish.network), signal);
      await this.#interfaces.attach(membership, wish, signal);
    } finally {
      this.#attempts.delete(id);
    }
  }

  #failed(id: string, error: Vl3Error): void {
    const wish = this.#wishes.get(id);
    if (wish === undefined) this.#wishes.tried(id);
    if (wish === undefined || this.#closing.signal.aborted) return;
    const { network, workload } = wish;
    if (wish.reason !== error.message)
      this.#deps.logger.warn({ network, attachment: id, workload, reason: error.message }, 'pending');
    this.#wishes.failed(id, error);
  }

  /** Detaches, and withdraws a wish; what is not there is no error. Answers what was detached. */
  async detach(request: DetachRequest): Promise<LocalAttachment[]> {
    if ('id' in request) return await this.#remove(request.id);
    const { network, netns } = request;
    const netnsId = await this.identify(netns);
    const found = [...this.#all, ...this.#wishes.all].find(
      (one) =>
        one.network === network && (netnsId === undefined ? one.netns === netns : one.netnsId === netnsId),
    );
    return found === undefined ? [] : await this.#remove(found.id);
  }

  /**
   * Takes off everything that has an address in this prefix, which is not this node's any more, and leaves wishes with
   * the reason: they are attached again, with other addresses, when they can be. The caller sees to it that nothing is
   * allocated from the prefix meanwhile. Throws the first failure after having tried all; what failed is still attached.
   */
  async withdraw(network: string, prefix: string, reason: string): Promise<LocalAttachment[]> {
    const lost = parsePrefix(prefix);
    const affected = this.#all.filter(
      (one) =>
        one.network === network && one.addresses.some((text) => prefixContains(lost, parseAddress(text))),
    );
    const outcomes = await Promise.allSettled(
      affected.map((one) => this.#inTurn(one, () => this.#withdraw(one.id, reason))),
    );
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return affected.map((one) => this.#toLocal(one));
  }

  /**
   * Takes off all that is on the network, which this node is to leave at once, and leaves wishes with the reason. As
   * `withdraw`.
   */
  async withdrawAll(network: string, reason: string): Promise<void> {
    const outcomes = await Promise.allSettled(
      this.#all
        .filter((one) => one.network === network)
        .map((one) => this.#inTurn(one, () => this.#withdraw(one.id, reason))),
    );
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** The registry admits these no more: they are taken off, and attached again when a rule admits them. Never throws. */
  async refused(network: string, refused: readonly Refused[]): Promise<void> {
    const work = refused.map(async ({ id, reason }) => {
      const found = this.#deps.state.get(ATTACHMENT, id);
      if (found?.network !== network || found.isLeaving) return;
      await this.#inTurn(found, () => this.#withdraw(id, reason));
      this.#failed(id, new NotAdmitted(reason));
    });
    for (const outcome of await Promise.allSettled(work))
      if (outcome.status === 'rejected')
        this.#deps.logger.error(
          { network, err: outcome.reason },
          'what is not admitted any more is still attached',
        );
  }

  /** What is pending on these networks may be attached by now. */
  hurry(isMeant: (network: string) => boolean): void {
    for (const { id, network } of this.#wishes.all) if (isMeant(network)) this.#wishes.tried(id);
    this.pursue();
  }

  /** What the network's rules refused may be admitted by now. */
  rulesChanged(network: string): void {
    this.#wishes.mayBeAdmitted(
      this.#wishes.all.filter((wish) => wish.network === network).map(({ id }) => id),
    );
    this.pursue();
  }

  async #withdraw(id: string, reason: string): Promise<void> {
    const document = this.#deps.state.get(ATTACHMENT, id);
    if (document === undefined) return;
    const { addresses: preferred, ready: _, isLeaving, attachedAt: askedAt, ...wanted } = document;
    // Who has it written in a configuration elsewhere would not know of another.
    const fixed = document.stockPeer === undefined ? document.fixed : preferred;
    const membership = await this.#deps.settled(document.network);
    const wish = { ...wanted, fixed, preferred, askedAt, reason };
    await this.#interfaces.unmake(membership, document, isLeaving ? undefined : wish);
    const { network, workload } = document;
    this.#deps.logger.warn({ network, attachment: id, workload, reason }, 'withdrawn');
  }

  async #remove(id: string): Promise<LocalAttachment[]> {
    const found = this.#get(id);
    if (found === undefined) return [];
    this.#attempts.get(id)?.abort(new Vl3Error('aborted', 'it was detached while it was being attached'));
    return await this.#inTurn(found, async () => {
      const present = this.#get(id);
      if (present === undefined) return [];
      if ('ready' in present) await this.#takeOff(present);
      else this.#wishes.strike(id);
      const { network, workload } = present;
      this.#deps.logger.info({ network, attachment: id, workload }, 'detached');
      return [this.#toLocal(present)];
    });
  }

  /** From here on it is not wanted, also if the agent dies before the end of it. */
  async #takeOff(document: AttachmentDocument): Promise<void> {
    this.#deps.onChange();
    const leaving = { ...document, isLeaving: true };
    this.#deps.state.put(ATTACHMENT, document.id, leaving);
    await this.#interfaces.unmake(await this.#deps.settled(document.network), leaving);
  }

  get #all(): AttachmentDocument[] {
    return this.#deps.state.list(ATTACHMENT).map(({ value }) => value);
  }

  #get(id: string): AttachmentDocument | WishDocument | undefined {
    return this.#deps.state.get(ATTACHMENT, id) ?? this.#wishes.get(id);
  }

  #find(network: string, netnsId: string): AttachmentDocument | WishDocument | undefined {
    return (
      this.#all.find((one) => one.network === network && one.netnsId === netnsId) ??
      this.#wishes.find(network, netnsId)
    );
  }

  #toLocal(document: AttachmentDocument | WishDocument): LocalAttachment {
    const waiting = this.#deps.member(document.network)?.verdicts.waiting(document.id) ?? '';
    return toLocal(document, waiting);
  }

  #inTurn<T>(one: { network: string; netnsId: string }, work: () => Promise<T>): Promise<T> {
    return this.#queues.run(`${one.network} ${one.netnsId}`, work);
  }

  async #identity(path: string): Promise<string> {
    if (isStockPlace(path)) return path;
    const { dev, ino } = await netnsIdentity(this.#deps.tools, path);
    return `${dev}:${ino}`;
  }

  /** What tells the namespace at a path from others; undefined: nothing, or no namespace, is there. */
  identify(path: string): Promise<string | undefined> {
    return this.#identity(path).catch(() => undefined);
  }

  /** Waits for what is under way; wishes stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Vl3Error('unavailable', 'the agent is stopping: try again'));
    await this.#queues.idle();
  }
}

const toLocal = (document: AttachmentDocument | WishDocument, waiting: string): LocalAttachment => {
  const { id, network, workload, interfaceName, labels, netns } = document;
  const shared = { id, network, workload, interfaceName, labels, netns };
  return 'ready' in document
    ? { ...shared, addresses: document.addresses, ready: document.ready, pending: waiting }
    : { ...shared, addresses: [], ready: false, pending: document.reason };
};
