// What happened to this node lately that somebody may ask about: sentences with their time, the last few.

export interface AgentEvent {
  /** Unix ms. */
  readonly at: number;
  readonly what: string;
}

const KEPT = 16;

export class Events {
  readonly #wall: () => number;
  #events: AgentEvent[] = [];

  constructor(wall: () => number) {
    this.#wall = wall;
  }

  /** Oldest first. */
  get all(): readonly AgentEvent[] {
    return this.#events;
  }

  /** Said again right away it only counts as later. */
  report(what: string): void {
    const earlier = this.#events.at(-1)?.what === what ? this.#events.slice(0, -1) : this.#events;
    this.#events = [...earlier, { at: this.#wall(), what }].slice(-KEPT);
  }
}
