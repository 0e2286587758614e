// A port that says how many receiver indices are in use.

import { Port } from '../port/port.ts';

export class CountingPort extends Port {
  readonly #counted: { indices: number };

  constructor(counted: { indices: number }, random: (length: number) => Uint8Array) {
    super({ random });
    this.#counted = counted;
  }

  override claim(owner: Parameters<Port['claim']>[0]): number {
    this.#counted.indices++;
    return super.claim(owner);
  }

  override release(index: number): void {
    this.#counted.indices--;
    super.release(index);
  }
}
