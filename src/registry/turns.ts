// At most so many at once, the others in line: for what costs memory while it lasts. Whoever keeps a turn too long loses
// it, so that those who stall cost the others time, not service.

export interface TurnsOptions {
  readonly atOnce: number;
  readonly longestMs: number;
}

export class Turns {
  readonly #options: TurnsOptions;
  #taken = 0;
  readonly #line: (() => void)[] = [];

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  /** Resolves with the call that gives the turn back. Everyone gets one, also who need it no more. */
  async take(): Promise<() => void> {
    if (this.#taken >= this.#options.atOnce) await new Promise<void>((resolve) => this.#line.push(resolve));
    else this.#taken++;
    let isOver = false;
    const giveBack = (): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      const next = this.#line.shift();
      // The turn goes on to the next in line, or is free.
      if (next === undefined) this.#taken--;
      else next();
    };
    const timer = setTimeout(giveBack, this.#options.longestMs);
    return giveBack;
  }
}
