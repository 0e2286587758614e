// Commands from main to one egress worker: a ring, and behind it those that found it full, in order.

import { createRing, Ring, type RingMemory } from './ring.ts';
import { COMMAND_LENGTH, COMMAND_PEER, COMMAND_SEQUENCE, COMMAND_SIZE } from './worker-protocol.ts';

const COMMANDS = 8192;

export interface Command {
  readonly kind: number;
  readonly peer: number;
  readonly sequence: number;
  readonly size: number;
}

export class CommandQueue {
  /** For the worker. */
  readonly memory: RingMemory = createRing(COMMAND_LENGTH, COMMANDS);
  readonly #ring = new Ring(this.memory);
  #waiting: Command[] = [];

  /** False: it waits for room, so call `retry` in a while. */
  push(command: Command): boolean {
    this.#waiting.push(command);
    return this.retry();
  }

  /** True when no command waits any more. */
  retry(): boolean {
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined) return true;
      const entry = this.#ring.reserve();
      if (entry < 0) return false;
      const { view } = this.#ring;
      view.setUint32(entry, next.kind, true);
      view.setInt32(entry + COMMAND_PEER, next.peer, true);
      view.setUint32(entry + COMMAND_SEQUENCE, next.sequence, true);
      view.setUint32(entry + COMMAND_SIZE, next.size, true);
      this.#ring.commit();
      this.#waiting.shift();
    }
  }
}
