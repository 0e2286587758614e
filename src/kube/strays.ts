// Pods with attachments here that are not among those of this node, but that the API server has all the same: for a moment,
// since a container runtime knows a pod before a watch tells of it; or for good, when this node is called otherwise there.

interface Stray {
  readonly name: string;
  readonly since: number;
  readonly askedAt: number;
}

const AGAIN_MS = 60_000;
/** Not said before: the watch may be late. */
const LASTING_MS = 30_000;

/** Times are milliseconds that only grow. */
export class Strays {
  readonly #strays = new Map<string, Stray>();

  /** Whether the API server should be asked for it. */
  isDue(uid: string, now: number): boolean {
    const known = this.#strays.get(uid);
    return known === undefined || now - known.askedAt >= AGAIN_MS;
  }

  /** The API server has it. */
  found(uid: string, name: string, now: number): void {
    this.#strays.set(uid, { name, since: this.#strays.get(uid)?.since ?? now, askedAt: now });
  }

  forget(isNone: (uid: string) => boolean): void {
    for (const uid of this.#strays.keys()) if (isNone(uid)) this.#strays.delete(uid);
  }

  /** By name. */
  lasting(now: number): string[] {
    return [...this.#strays.values()].flatMap(({ name, since }) => (now - since >= LASTING_MS ? [name] : []));
  }
}
