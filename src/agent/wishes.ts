// What was asked for and is not attached yet: kept on disk until it is attached, detached, or its namespace is gone, and
// tried again and again, more seldom each time. How it is tried is attachments.ts.

import { NotAdmitted, type Vl3Error } from '../../native-free/error.ts';
import { WISH, type WishDocument } from '../../native-free/reconcile/documents.ts';
import type { AgentState } from './state.ts';

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 10_000;
/** What is refused by its network's rules is tried again when those change; this is for what nobody was told of. */
const REFUSED_RETRY_MS = 5 * 60_000;

interface Schedule {
  readonly attempts: number;
  readonly dueAt: number;
  readonly isRefused: boolean;
}

export interface WishesDeps {
  readonly state: AgentState;
  /** Milliseconds that only grow. */
  readonly now: () => number;
}

export class Wishes {
  readonly #deps: WishesDeps;
  readonly #schedules = new Map<string, Schedule>();

  constructor(deps: WishesDeps) {
    this.#deps = deps;
  }

  get all(): WishDocument[] {
    return this.#deps.state.list(WISH).map(({ value }) => value);
  }

  get(id: string): WishDocument | undefined {
    return this.#deps.state.get(WISH, id);
  }

  find(network: string, netnsId: string): WishDocument | undefined {
    return this.all.find((one) => one.network === network && one.netnsId === netnsId);
  }

  /** It was tried, and no rule of its network admitted it. */
  isRefused(id: string): boolean {
    return this.#schedules.get(id)?.isRefused === true;
  }

  put(wish: WishDocument): void {
    this.#deps.state.put(WISH, wish.id, wish);
  }

  strike(id: string): void {
    this.#deps.state.delete(WISH, id);
    this.#schedules.delete(id);
  }

  /** Those whose time to be tried has come; each is due again only when it is said how that went. */
  takeDue(): WishDocument[] {
    const now = this.#deps.now();
    const due = this.all.filter(({ id }) => (this.#schedules.get(id)?.dueAt ?? 0) <= now);
    for (const { id } of due) this.#put(id, this.#schedules.get(id)?.attempts ?? 0, Number.POSITIVE_INFINITY);
    return due;
  }

  /** It was tried, and is attached or was before: should it be wished for again, it is due at once. */
  tried(id: string): void {
    this.#schedules.delete(id);
  }

  /** It was tried in vain: the reason is written down when it is another than before. */
  failed(id: string, error: Vl3Error): void {
    const { message } = error;
    const wish = this.get(id);
    if (wish === undefined) return;
    const attempts = (this.#schedules.get(id)?.attempts ?? 0) + 1;
    const isRefused = error instanceof NotAdmitted;
    const delay = isRefused
      ? REFUSED_RETRY_MS
      : Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (attempts - 1));
    this.#put(id, attempts, this.#deps.now() + delay, isRefused);
    if (wish.reason !== message) this.put({ ...wish, reason: message });
  }

  /** Those of them that were refused by rules are due at once: something has changed. */
  mayBeAdmitted(ids: readonly string[]): void {
    for (const id of ids) if (this.#schedules.get(id)?.isRefused === true) this.#schedules.delete(id);
  }

  #put(id: string, attempts: number, dueAt: number, isRefused = false): void {
    this.#schedules.set(id, { attempts, dueAt, isRefused });
  }
}
