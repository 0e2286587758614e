// Work done again and again by one timer: never twice at once, never stopped by a failure, and at the end waited for.

import type { Logger } from 'pino';

export class Periodic implements AsyncDisposable {
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;

  constructor(milliseconds: number, work: () => void | Promise<void>, logger: Logger) {
    const run = async (): Promise<void> => {
      try {
        await work();
      } catch (error) {
        logger.error({ err: error }, 'periodic work failed');
      } finally {
        this.#running = undefined;
      }
    };
    this.#timer = setInterval(() => {
      this.#running ??= run();
    }, milliseconds);
  }

  /** Resolves when what is under way has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }
}
