// The moment a process dies. Everything a process does to the world passes a crash point; an armed switch lets a number
// of them pass and then throws at one, after which every other throws too: a dead process writes nothing more.

/** Not an error of the code under test: only who runs the process may catch it. */
export class Crash extends Error {
  constructor(point: string) {
    super(`died at ${point}`);
    this.name = 'Crash';
  }
}

export class CrashSwitch {
  #left = Number.POSITIVE_INFINITY;

  /** Dies at the crash point after `points` more have been passed. */
  arm(points: number): void {
    this.#left = points;
  }

  disarm(): void {
    this.#left = Number.POSITIVE_INFINITY;
  }

  get isArmed(): boolean {
    return this.#left !== Number.POSITIVE_INFINITY;
  }

  point(name: string): void {
    if (this.#left <= 0) throw new Crash(name);
    this.#left--;
  }
}
