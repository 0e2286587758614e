// Which calls are worked on, and when: so many at once, the others in line in the order they came. One whose client has
// given up is passed over without any work, and one that waited too long is refused while its client still listens, so
// that a registry that cannot keep up answers fewer calls instead of all of them too late.

import { Vl3Error } from '../../native-free/error.ts';

export interface AdmissionOptions {
  readonly atOnce: number;
  /** In line; more are refused at once. */
  readonly most: number;
  /** Well below what clients wait for an answer. */
  readonly longestWaitMs: number;
}

interface Waiting {
  readonly isGone: () => boolean;
  readonly proceed: (isAdmitted: boolean) => void;
}

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #line = new Set<Waiting>();
  #working = 0;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** In line. */
  get waiting(): number {
    return this.#line.size;
  }

  /** Carries the call out when its turn has come. Throws Vl3Error('unavailable') when that would be too late. */
  async admit<T>(signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    if (this.#working < this.#options.atOnce) this.#working++;
    else await this.#turn(signal);
    try {
      return await call();
    } finally {
      this.#working--;
      this.#next();
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    if (this.#line.size >= this.#options.most) throw this.#busy();
    const isAdmitted = await new Promise<boolean>((resolve) => {
      const waiting: Waiting = {
        isGone: () => signal.aborted,
        proceed: (isAdmitted) => {
          clearTimeout(timer);
          this.#line.delete(waiting);
          resolve(isAdmitted);
        },
      };
      const timer = setTimeout(() => waiting.proceed(false), this.#options.longestWaitMs);
      this.#line.add(waiting);
    });
    if (!isAdmitted) throw this.#busy();
  }

  #next(): void {
    for (const waiting of this.#line) {
      if (this.#working >= this.#options.atOnce) return;
      if (waiting.isGone()) {
        waiting.proceed(false);
        continue;
      }
      this.#working++;
      waiting.proceed(true);
    }
  }

  #busy(): Vl3Error {
    return new Vl3Error('unavailable', 'the registry is busy with other calls: try again in a moment');
  }
}
