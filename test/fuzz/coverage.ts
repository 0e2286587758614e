// Whether an input ran code that had not run before, by V8's own block coverage of this process. Every look at it takes
// some tenths of a millisecond, so callers look often at first and seldom when nothing new has come for long.

import { Session } from 'node:inspector/promises';

const PROJECT = /\/(native-free|src|cmd)\//;

export class Coverage implements Disposable {
  readonly #session = new Session();
  readonly #seen = new Set<string>();

  static async start(): Promise<Coverage> {
    const coverage = new Coverage();
    coverage.#session.connect();
    await coverage.#session.post('Profiler.enable');
    await coverage.#session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true });
    return coverage;
  }

  private constructor() {}

  /** How many blocks of the project's code have run so far. */
  get size(): number {
    return this.#seen.size;
  }

  /** True when a block ran that had not run before the last look. */
  async look(): Promise<boolean> {
    const { result } = await this.#session.post('Profiler.takePreciseCoverage');
    const before = this.#seen.size;
    for (const { url, functions } of result) {
      if (!PROJECT.test(url)) continue;
      for (const { ranges } of functions)
        for (const { startOffset, endOffset, count } of ranges)
          if (count > 0) this.#seen.add(`${url}:${startOffset}-${endOffset}`);
    }
    return this.#seen.size > before;
  }

  [Symbol.dispose](): void {
    this.#session.disconnect();
  }
}
