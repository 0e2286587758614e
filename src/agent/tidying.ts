// Gives memory back that a start, or many attachments at once, needed for a moment: each of them runs programs and talks to
// the kernel, and what that took stays with the process otherwise, several times of what it holds at rest.

/** So many that were made or taken off are many. */
const MANY = 50;
/** Tidying stops the calling thread for a tenth of a second: when nobody minds. */
const PEACE_MS = 15_000;

export class Tidying implements Disposable {
  readonly #tidy: () => void;
  readonly #timer: NodeJS.Timeout;
  /** Since it was last tidied; at first as if many. */
  #changes = MANY;

  constructor(tidy: () => void) {
    this.#tidy = tidy;
    this.#timer = setTimeout(() => this.#atPeace(), PEACE_MS).unref();
  }

  /** An attachment was made or taken off. */
  changed(): void {
    this.#changes += 1;
    this.#timer.refresh();
  }

  #atPeace(): void {
    if (this.#changes < MANY) return;
    this.#changes = 0;
    this.#tidy();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
