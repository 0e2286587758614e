// Ends a fuzzer that hangs: no code of the main thread can notice that it loops. A worker looks at a count that each
// execution raises; when it stands still for long, the input is written down and the process killed.

import { Worker } from 'node:worker_threads';

const MAX_INPUT = 65_536;
const HEADER_WORDS = 2;

export interface WatchdogData {
  readonly memory: SharedArrayBuffer;
  readonly path: string;
}

export class Watchdog implements AsyncDisposable {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #worker: Worker;

  /** `path`: where the input goes that hangs. */
  constructor(path: string) {
    const memory = new SharedArrayBuffer(HEADER_WORDS * 4 + MAX_INPUT);
    this.#words = new Int32Array(memory, 0, HEADER_WORDS);
    this.#bytes = new Uint8Array(memory, HEADER_WORDS * 4);
    const workerData: WatchdogData = { memory, path };
    this.#worker = new Worker(new URL('./watchdog-worker.ts', import.meta.url), { workerData });
    this.#worker.unref();
  }

  /** The next execution begins. */
  watch(input: Uint8Array): void {
    const length = Math.min(input.length, MAX_INPUT);
    this.#bytes.set(input.subarray(0, length));
    Atomics.store(this.#words, 1, length);
    Atomics.add(this.#words, 0, 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
