// How many lines of one kind a log takes, so that whoever can cause lines (a client that is refused, a registry that is
// away for days) cannot fill the disk with them: a token bucket for each kind. What is left out is counted, and told
// with the next line of its kind.

const BURST = 300;
const MILLISECONDS_EACH = 1000;
/** Kinds are texts in the code, far fewer than this; past it the one least recently seen is forgotten. */
const MAX_KINDS = 1000;
const FULL = BURST * MILLISECONDS_EACH;

interface Kind {
  /** Milliseconds' worth of lines. */
  saved: number;
  seenAt: number;
  leftOut: number;
}

export class LogBudget {
  /** The least recently seen first. */
  readonly #kinds = new Map<string, Kind>();

  /** How many lines of this kind were left out before this one, which is logged; undefined: leave it out, too. */
  take(name: string, now: number): number | undefined {
    const kind = this.#kinds.get(name) ?? { saved: FULL, seenAt: now, leftOut: 0 };
    this.#kinds.delete(name);
    this.#kinds.set(name, kind);
    if (this.#kinds.size > MAX_KINDS) {
      const [oldest] = this.#kinds.keys();
      if (oldest !== undefined) this.#kinds.delete(oldest);
    }
    kind.saved = Math.min(FULL, kind.saved + Math.max(0, now - kind.seenAt));
    kind.seenAt = now;
    if (kind.saved < MILLISECONDS_EACH) {
      kind.leftOut++;
      return undefined;
    }
    kind.saved -= MILLISECONDS_EACH;
    const { leftOut } = kind;
    kind.leftOut = 0;
    return leftOut;
  }
}
