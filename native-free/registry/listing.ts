// The nodes of one network that the registry lists, and whether that counts against those it does not. By itself absence
// says nothing: a registry that lost its memory lists nobody. Once it says, asked after it began its list, that it is not
// recovering, it has decided who is on the network, and a remembered node that it does not know yields to one that it does.

export class Listing {
  /** The nodes of which the registry has as new a record as is known here. */
  readonly #nodes = new Set<string>();
  #storeId = '';
  #begunAt = Number.POSITIVE_INFINITY;
  #isDecided = false;

  /** From here on the registry says all that it has in this store. `boot`: CLOCK_BOOTTIME, in ms. */
  begin(storeId: string, boot: number): void {
    this.#nodes.clear();
    this.#storeId = storeId;
    this.#begunAt = boot;
    this.#isDecided = false;
  }

  add(node: string): void {
    this.#nodes.add(node);
  }

  remove(node: string): void {
    this.#nodes.delete(node);
  }

  has(node: string): boolean {
    return this.#nodes.has(node);
  }

  /** Asked at `askedAt`, the registry says that it is not recovering. True when the list counts from now on. */
  decided(storeId: string, askedAt: number): boolean {
    if (this.#isDecided || storeId !== this.#storeId || askedAt < this.#begunAt) return false;
    this.#isDecided = true;
    return true;
  }

  /** The registry says that it lost its memory. */
  doubted(): void {
    this.#isDecided = false;
  }

  /** False: the registry has decided without this node. */
  mayHold(node: string): boolean {
    return !this.#isDecided || this.#nodes.has(node);
  }
}
