// A machine that slept, or an agent that was stopped, may wake with leases that ended meanwhile. What was attached from them
// is taken down before handshakes go on; sessions are none by then, since the workers count their time on CLOCK_BOOTTIME.

import type { Logger } from 'pino';

/** Whoever was away for less has not lost a lease: attachments go down long before its end. */
const AWAY_MS = 2_000;
/** What cannot be taken down in this time does not keep the rest from going on. */
const PATIENCE_MS = 10_000;

export interface WakeUpDeps {
  /** Of CLOCK_BOOTTIME, milliseconds. */
  readonly monotonic: () => number;
  /** Takes down what has ended. */
  readonly takeDown: () => Promise<void>;
  readonly logger: Logger;
}

export class WakeUp {
  readonly #deps: WakeUpDeps;
  #seenAt: number;
  /** CLOCK_BOOTTIME; undefined: nothing is being taken down for having been away. */
  #wokeAt: number | undefined;

  constructor(deps: WakeUpDeps) {
    this.#deps = deps;
    this.#seenAt = deps.monotonic();
  }

  /** To be asked before anything is done, many times a second: false while what ended is being taken down. */
  mayGoOn(): boolean {
    const now = this.#deps.monotonic();
    const awayMs = now - this.#seenAt;
    this.#seenAt = now;
    if (awayMs > AWAY_MS) void this.#settle(now, awayMs);
    return this.#wokeAt === undefined || now - this.#wokeAt >= PATIENCE_MS;
  }

  async #settle(now: number, awayMs: number): Promise<void> {
    const { takeDown, logger } = this.#deps;
    this.#wokeAt = now;
    logger.warn({ awayMs: Math.round(awayMs) }, 'this agent was away');
    try {
      await takeDown();
    } catch (error) {
      logger.error({ err: error }, 'leases could not be looked at after that');
    } finally {
      if (this.#wokeAt === now) this.#wokeAt = undefined;
    }
  }
}
