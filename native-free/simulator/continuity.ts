// Whether traffic goes on while nothing happens that may stop it. The registry may be gone, restored, emptied or lie, wall
// clocks may jump and somebody may flood: who reached whom is answered all the same. Processes that die, partitions and
// weather are disturbances, and while they last, and until a pair was heard again after them, nothing is judged.

import type { Invariants } from './invariants.ts';
import type { Place } from './pods.ts';
import type { Scheduler } from './scheduler.ts';

/** An echo is answered within this time: longer than a handshake that is tried again takes, with a cookie. */
const PATIENCE_MS = 20_000;

export interface ContinuityDependencies {
  readonly scheduler: Scheduler;
  readonly invariants: Invariants;
  /** Whether the registry was out of this machine's reach for longer than is promised. */
  readonly isBeyondBudget: (machine: string) => boolean;
}

export class Continuity {
  readonly #dependencies: ContinuityDependencies;
  readonly #watched = new Set<string>();
  #lasting = 0;
  #disturbedAt = Number.NEGATIVE_INFINITY;

  constructor(dependencies: ContinuityDependencies) {
    this.#dependencies = dependencies;
  }

  /** Something happened that may stop traffic. */
  disturbed(): void {
    this.#disturbedAt = this.#dependencies.scheduler.now;
  }

  /** Something began that may stop traffic; call the answer when it ends. */
  begin(): () => void {
    this.#lasting++;
    return () => {
      this.#lasting--;
      this.disturbed();
    };
  }

  /** Nothing has disturbed since. */
  isCalmSince(time: number): boolean {
    return this.#lasting === 0 && this.#disturbedAt < time;
  }

  /** A request was sent; `answeredAt` says when the last answer came from this address. */
  requested(from: Place, to: Place, address: string, answeredAt: () => number): void {
    const { scheduler, invariants, isBeyondBudget } = this.#dependencies;
    const sentAt = scheduler.now;
    const last = answeredAt();
    if (!this.isCalmSince(last) || Math.max(from.changedAt, to.changedAt) >= last) return;
    const pair = `${from.network} ${from.pod.name} ${to.pod.name} ${address}`;
    if (this.#watched.has(pair)) return;
    this.#watched.add(pair);
    scheduler.after(PATIENCE_MS, `${pair}: looks for the answer`, () => {
      this.#watched.delete(pair);
      if (!this.isCalmSince(last) || Math.max(from.changedAt, to.changedAt) >= last) return;
      if (from.pod.isGone || to.pod.isGone) return;
      const machines = [from.pod.machine.name, to.pod.machine.name];
      if (machines.some(isBeyondBudget)) return;
      invariants.judge(
        'no outage stops anything',
        answeredAt() >= sentAt,
        () =>
          `${from.pod.name} on ${machines[0]} reached ${to.pod.name} (${address}) on ${machines[1]} on ${from.network}, and since ${sentAt} it is not answered, though nothing happened that may stop it`,
      );
    });
  }
}
