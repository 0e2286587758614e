// The terms of a store's leases on one monotonic clock. Deadlines live in memory only, so a store that was down gives
// every lease its full term again; a process that stalled does the same, since nobody could renew meanwhile.

export interface LeaseTimersOptions {
  readonly now: () => number;
  /** Called with the leases that ended, which are forgotten already. */
  readonly onExpired: (leases: string[]) => void;
}

const STALL_MS = 1000;

export class LeaseTimers {
  readonly #options: LeaseTimersOptions;
  readonly #leases = new Map<string, { ttlMs: number; deadline: number }>();
  #timer: NodeJS.Timeout | undefined;
  #dueAt = Number.POSITIVE_INFINITY;
  #closed = false;

  constructor(options: LeaseTimersOptions) {
    this.#options = options;
  }

  add(lease: string, ttlMs: number): void {
    const deadline = this.#options.now() + ttlMs;
    this.#leases.set(lease, { ttlMs, deadline });
    if (deadline < this.#dueAt) this.#arm(deadline);
  }

  has(lease: string): boolean {
    return this.#leases.has(lease);
  }

  keepAlive(lease: string): boolean {
    const entry = this.#leases.get(lease);
    if (entry === undefined) return false;
    entry.deadline = this.#options.now() + entry.ttlMs;
    return true;
  }

  remove(lease: string): void {
    this.#leases.delete(lease);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #arm(dueAt: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#dueAt = dueAt;
    this.#timer = setTimeout(() => this.#fire(), Math.max(1, Math.ceil(dueAt - this.#options.now())));
  }

  #fire(): void {
    const now = this.#options.now();
    if (now - this.#dueAt > STALL_MS) {
      for (const entry of this.#leases.values()) entry.deadline = now + entry.ttlMs;
    }
    const ended: string[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [lease, entry] of this.#leases) {
      if (entry.deadline <= now) ended.push(lease);
      else next = Math.min(next, entry.deadline);
    }
    for (const lease of ended) this.#leases.delete(lease);
    this.#dueAt = Number.POSITIVE_INFINITY;
    if (next !== Number.POSITIVE_INFINITY) this.#arm(next);
    if (ended.length > 0) this.#options.onExpired(ended);
  }
}
