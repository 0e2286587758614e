// When the watchers of one network are served: all in one round, soon after something changed or somebody came, and
// again only when the last round's bytes are on their way and all have rested (pace.ts). So those in a round stand at the
// same revisions and share what they are told, and everything between two rounds is told in one step.

import { setImmediate as immediate } from 'node:timers/promises';
import type { Pace } from './pace.ts';

/** Told in one go, before others have their turn. */
const SLICE = 256;

export interface RoundsOptions {
  /** A round is held this often even though nothing changed, so that what only time brings is noticed. */
  readonly tickMs: number;
  /** Of all networks: the more, the longer they rest. */
  readonly watchers: () => number;
}

export class Rounds implements Disposable {
  readonly #options: RoundsOptions;
  readonly #pace: Pace;
  readonly #members = new Set<() => void>();
  readonly #tick: NodeJS.Timeout;
  #restsUntil = 0;
  #isHeld = false;
  #isWanted = false;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: RoundsOptions, pace: Pace) {
    this.#options = options;
    this.#pace = pace;
    this.#tick = setInterval(() => this.want(), options.tickMs);
  }

  get isEmpty(): boolean {
    return this.#members.size === 0;
  }

  /** `serve` is called in every round, must be quick and must not throw. Answers what ends that. */
  join(serve: () => void): () => void {
    this.#members.add(serve);
    return () => {
      this.#members.delete(serve);
    };
  }

  /** Resolves in the next round, or when the signal aborts. */
  next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        leave();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const leave = this.join(done);
      signal.addEventListener('abort', done);
      if (signal.aborted) done();
    });
  }

  /** A round as soon as all have rested. */
  want(): void {
    this.#isWanted = true;
    if (this.#isHeld || this.#isClosed || this.#timer !== undefined) return;
    const now = performance.now();
    const moment = Math.max(now, this.#restsUntil);
    const begin = () => {
      this.#timer = undefined;
      void this.#hold(moment);
    };
    this.#timer = setTimeout(begin, Math.ceil(moment - now));
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    clearInterval(this.#tick);
    clearTimeout(this.#timer);
  }

  async #hold(moment: number): Promise<void> {
    this.#isHeld = true;
    this.#isWanted = false;
    const members = [...this.#members];
    for (let i = 0; i < members.length; i += SLICE) {
      for (const serve of members.slice(i, i + SLICE)) serve();
      await immediate();
    }
    // Once more around: what was written has been sealed and sent by then.
    await immediate();
    const ended = performance.now();
    this.#pace.wentOn(moment, ended);
    this.#restsUntil = this.#pace.next(this.#options.watchers(), ended);
    this.#isHeld = false;
    if (this.#isWanted) this.want();
  }
}
