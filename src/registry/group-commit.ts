// Group commit: what is asked of a store within one turn of the event loop is done one after another in one transaction,
// and answered when that is on the disk. One sync for all of them; each still sees what those before it left.
// Not here: what the transaction is (sqlite-store.ts).

export interface Committer {
  begin(): void;
  /** Makes everything since `begin` durable. */
  commit(): void;
  /** Takes back everything since `begin`; must not throw. */
  rollback(): void;
  /** What the caller of a body is told when the transaction it was in failed. */
  failure(cause: unknown): Error;
}

/**
 * What a body throws to be refused alone. It must not have written anything: whatever else a body throws takes the whole
 * transaction back.
 */
export class Refusal {
  readonly reason: unknown;

  constructor(reason: unknown) {
    this.reason = reason;
  }
}

interface Waiting {
  /** Runs the body inside the transaction; answers what to do once it is durable. */
  readonly run: () => () => void;
  readonly fail: (error: unknown) => void;
}

/** A transaction ends after this, so that timers and sockets get their turn. */
const MAX_GROUP_MS = 20;
const MAX_GROUP = 256;

export class GroupCommit {
  readonly #committer: Committer;
  #queue: Waiting[] = [];
  #scheduled: NodeJS.Immediate | undefined;

  constructor(committer: Committer) {
    this.#committer = committer;
  }

  /** Runs `body` soon, maybe more than once; resolves when what it wrote, and all that it saw, is durable. */
  run<T>(body: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = () => {
        const answer = body();
        return () => resolve(answer);
      };
      this.#queue.push({ run, fail: reject });
      this.#schedule();
    });
  }

  /** Does all that waits, now. */
  flush(): void {
    while (this.#queue.length > 0) this.#next();
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
  }

  #schedule(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.#next();
      if (this.#queue.length > 0) this.#schedule();
    });
  }

  #next(): void {
    const group = this.#queue.slice(0, MAX_GROUP);
    const done = this.#together(group);
    this.#queue.splice(0, done);
  }

  /** Answers how many of the group it dealt with. */
  #together(group: readonly Waiting[]): number {
    const answers: (() => void)[] = [];
    const start = performance.now();
    try {
      this.#committer.begin();
      for (const { run, fail } of group) {
        try {
          answers.push(run());
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
          // Not before the commit either: what it was refused for may be what others of the group wrote.
          answers.push(() => fail(error.reason));
        }
        if (performance.now() - start > MAX_GROUP_MS) break;
      }
      this.#committer.commit();
    } catch (cause) {
      this.#committer.rollback();
      const [first] = group;
      if (first === undefined) return 0;
      // One that is too large for what is left of the disk must not fail the others: each on its own.
      if (answers.length === 0 || group.length === 1) {
        first.fail(this.#committer.failure(cause));
        return 1;
      }
      let done = 0;
      for (const one of group) done += this.#together([one]);
      return done;
    }
    for (const answer of answers) answer();
    return answers.length;
  }
}
