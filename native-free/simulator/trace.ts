// What happened, in order: the last lines for people, and a hash of all of them by which two runs are told apart. The
// same seed gives the same hash, or something in the simulator asks a clock or dice of its own.

import { hashText } from './random.ts';

const KEPT = 400;

export class Trace {
  readonly #lines: string[] = [];
  #low = 0x811c9dc5;
  #high = 0x2545f491;
  #count = 0;

  note(time: number, text: string): void {
    const line = `${time.toFixed(3)} ${text}`;
    this.#low = hashText(line, this.#low);
    this.#high = hashText(line, this.#high);
    this.#lines[this.#count++ % KEPT] = line;
  }

  get count(): number {
    return this.#count;
  }

  /** 16 hex digits. */
  get hash(): string {
    return [this.#high, this.#low].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  /** The last lines, oldest first. */
  tail(count: number): string[] {
    const first = Math.max(0, this.#count - Math.min(count, KEPT));
    return Array.from({ length: this.#count - first }, (_, i) => this.#lines[(first + i) % KEPT] ?? '');
  }
}
