// A port that says how many receiver indices are in use.

import { Port } from '../port/port.ts';

export class CountingPort extends Port {
  readonly #counted: { indices: number };

  constructor(counted: { indices: number }, random: (length: number) => Uint8Array) {
    super({ random });
    this.#counted = counted;
  }

  override claim(...of: Parameters<Port['claim']>): number {
    this.#counted.indices++;
    return super.claim(...of);
  }

  override release(index: number): void {
    this.#counted.indices--;
    super.release(index);
  }
}
