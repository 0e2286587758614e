// Which of a peer's keypairs is in which place (whitepaper section 6.2 and 6.3; wireguard-go's device/keypair.go).
// A responder's keypair waits as `next` until the initiator proves by a first message that it has it; an initiator's
// is `current` at once; the one before stays as `previous` for packets under way.
//
// Deviations, so that nothing under way is lost when both ends rekey at once: what others drop at a handshake stays as
// `retired` until the next one, and a responder keeps its `previous` until the next one is confirmed. Once both have rekeyed
// at once, each seals with the session that it began, so that `previous` is the one that the other goes on to seal with.
// Not here: keys, counters, windows. Those belong to the data plane.

/** Anything that listens on a receiver index. */
export interface Indexed {
  readonly localIndex: number;
}

export class Keypairs<K extends Indexed> {
  #current: K | undefined;
  #previous: K | undefined;
  #next: K | undefined;
  /** Two at most. */
  #retired: readonly K[] = [];

  /** The one to seal with. */
  get current(): K | undefined {
    return this.#current;
  }

  /** The responder's, not yet confirmed. */
  get next(): K | undefined {
    return this.#next;
  }

  get previous(): K | undefined {
    return this.#previous;
  }

  get isEmpty(): boolean {
    const { current, previous, next } = this;
    return (current ?? previous ?? next ?? this.#retired[0]) === undefined;
  }

  /** All that packets may still arrive under. */
  all(): K[] {
    return [this.#current, this.#previous, this.#next, ...this.#retired].filter((one) => one !== undefined);
  }

  /** The initiator's new session: in use from now on. Returns what is forgotten. */
  installAsInitiator(keypair: K): K[] {
    const held = this.all();
    if (this.#next === undefined) {
      this.#retire(this.#previous);
      this.#previous = this.#current;
    } else {
      this.#retire(this.#current, this.#previous);
      this.#previous = this.#next;
      this.#next = undefined;
    }
    this.#current = keypair;
    return this.#forgotten(held);
  }

  /** The responder's new session: waits for its confirmation. Returns what is forgotten. */
  installAsResponder(keypair: K): K[] {
    const held = this.all();
    this.#next = keypair;
    return this.#forgotten(held);
  }

  /**
   * A message authenticated under this index. Returns what is forgotten when that promoted `next` to current,
   * undefined when it changes nothing.
   */
  confirm(localIndex: number): K[] | undefined {
    if (this.#next?.localIndex !== localIndex) return undefined;
    const held = this.all();
    this.#retire(this.#previous);
    this.#previous = this.#current;
    this.#current = this.#next;
    this.#next = undefined;
    return this.#forgotten(held);
  }

  /** Forgets those for which `isOver` holds, and returns them. */
  removeIf(isOver: (keypair: K) => boolean): K[] {
    const held = this.all();
    if (this.#current !== undefined && isOver(this.#current)) this.#current = undefined;
    if (this.#previous !== undefined && isOver(this.#previous)) this.#previous = undefined;
    if (this.#next !== undefined && isOver(this.#next)) this.#next = undefined;
    this.#retire(...this.#retired.filter((one) => !isOver(one)));
    return this.#forgotten(held);
  }

  #retire(...keypairs: (K | undefined)[]): void {
    this.#retired = keypairs.filter((one) => one !== undefined);
  }

  #forgotten(held: K[]): K[] {
    const kept = this.all();
    return held.filter((one) => !kept.includes(one));
  }
}
