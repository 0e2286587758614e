// How much one partner's registry may make this node keep: nodes, and bytes that they signed. It says what it likes of who is
// on its networks, its CA signs it, and what this node runs out of, its own domain's networks run out of too.

/** Of one partner, on all of its networks: each may become a peer. */
export const MAX_TOLD_NODES = 4096;
/** Records, names and grants, as they were signed. */
export const MAX_TOLD_BYTES = 32 * 1024 * 1024;
/** Longer is no node's name (registry/foreign-key.ts). */
const MAX_KEY_LENGTH = 320;

/** Of what a step of a watch says of a node; undefined: nothing new. */
export interface ToldBytes {
  readonly record: number | undefined;
  readonly names: number | undefined;
  readonly grant: number | undefined;
}

interface Told {
  /** It has no record that is kept: it can be no peer. */
  isGone: boolean;
  record: number;
  names: number;
  grant: number;
}

const bytesOf = ({ record, names, grant }: Told): number => record + names + grant;

export class ToldBounds {
  /** By network, by node. */
  readonly #told = new Map<string, Map<string, Told>>();
  #nodes = 0;
  #bytes = 0;
  #refused = 0;

  /** Whether what is said of the node is taken; else it is not to be kept. */
  take(network: string, node: string, said: ToldBytes): boolean {
    const nodes = this.#told.get(network) ?? new Map<string, Told>();
    this.#told.set(network, nodes);
    const before = nodes.get(node);
    const after = {
      isGone: false,
      record: said.record ?? before?.record ?? 0,
      names: said.names ?? before?.names ?? 0,
      grant: said.grant ?? before?.grant ?? 0,
    };
    const more = bytesOf(after) - (before === undefined ? 0 : bytesOf(before));
    const isNew = before === undefined || before.isGone;
    const isRefused = node.length > MAX_KEY_LENGTH || (isNew && this.#nodes >= MAX_TOLD_NODES);
    if (isRefused || (more > 0 && this.#bytes + more > MAX_TOLD_BYTES)) {
      this.#refused += 1;
      return false;
    }
    if (isNew) this.#nodes += 1;
    this.#bytes += more;
    nodes.set(node, after);
    return true;
  }

  /** Its record is kept no more; what it was granted is, until this node leaves the network. */
  buried(network: string, node: string): void {
    const told = this.#told.get(network)?.get(node);
    if (told === undefined || told.isGone) return;
    this.#bytes -= told.record;
    this.#nodes -= 1;
    told.record = 0;
    told.isGone = true;
  }

  /** Nothing of the network is kept any more. */
  forget(network: string): void {
    const nodes = this.#told.get(network);
    if (nodes === undefined) return;
    for (const told of nodes.values()) {
      this.#bytes -= bytesOf(told);
      if (!told.isGone) this.#nodes -= 1;
    }
    this.#told.delete(network);
  }

  /** What is wrong, in a sentence; undefined: nothing was left out. */
  get problem(): string | undefined {
    return this.#refused === 0
      ? undefined
      : `its registry tells of more than this node keeps of a partner (${MAX_TOLD_NODES} nodes, ${MAX_TOLD_BYTES / 1024 / 1024} MiB): the rest is left out`;
  }
}
