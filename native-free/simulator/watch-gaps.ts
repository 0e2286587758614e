// How long each node has heard nothing on a watch of its own, as seen from outside. Records come by the watch: a node that
// is cut off from it for longer than the outage budget may lose its peers, however well its leases are renewed.

/** What a gap has stopped takes this long to go on. */
const AFTERMATH_MS = 60_000;

interface Gap {
  readonly node: string;
  heardAt: number;
  last: { readonly ms: number; readonly endedAt: number };
}

export class WatchGaps {
  readonly #now: () => number;
  /** By node and network. */
  readonly #gaps = new Map<string, Gap>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** The node wants to hear; a gap that lasts goes on. */
  opened(node: string, network: string): void {
    const key = `${node} ${network}`;
    const fresh = { node, heardAt: this.#now(), last: { ms: 0, endedAt: Number.NEGATIVE_INFINITY } };
    if (!this.#gaps.has(key)) this.#gaps.set(key, fresh);
  }

  heard(node: string, network: string): void {
    const gap = this.#gaps.get(`${node} ${network}`);
    if (gap === undefined) return;
    const now = this.#now();
    const ms = now - gap.heardAt;
    if (ms >= this.#aftermath(gap)) gap.last = { ms, endedAt: now };
    gap.heardAt = now;
  }

  /** The node does not want to hear of the network any more. */
  left(node: string, network: string): void {
    this.#gaps.delete(`${node} ${network}`);
  }

  /** The longest of the node's watches that lasts or is just over; milliseconds. */
  longest(node: string): number {
    let longest = 0;
    for (const gap of this.#gaps.values())
      if (gap.node === node) longest = Math.max(longest, this.#now() - gap.heardAt, this.#aftermath(gap));
    return longest;
  }

  #aftermath({ last }: Gap): number {
    return this.#now() - last.endedAt < AFTERMATH_MS ? last.ms : 0;
  }
}
