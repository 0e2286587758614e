// What this agent tries again until it succeeds, in the log: a failure is said when its reason is new, and again every ten
// minutes, with how often it came meanwhile.

import { ConnectError } from '@connectrpc/connect';
import type { Logger } from 'pino';
import type { Vl3Error } from '../../native-free/error.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { fromConnectError } from '../api/errors.ts';

export interface FailuresDeps {
  readonly logger: Logger;
  readonly clock: { readonly monotonic: () => number };
}

/** Of one kind of work, on at most so many networks at a time. */
const MAX_REASONS = 64;

export class Failures {
  readonly #what: string;
  readonly #deps: FailuresDeps;
  readonly #reasons = new RepeatedReasons(MAX_REASONS);

  /** `what`: the line in the log, e.g. "leaving failed; it is tried again". */
  constructor(what: string, deps: FailuresDeps) {
    this.#what = what;
    this.#deps = deps;
  }

  /** Says that it failed, unless that was said lately; `about` tells one work from another. Answers why. */
  say(error: unknown, about: Readonly<Record<string, string>> = {}): Vl3Error {
    const { logger, clock } = this.#deps;
    const problem = fromConnectError(error);
    const { code, message: reason } = problem;
    const again = this.#reasons.take(`${JSON.stringify(about)} ${reason}`, clock.monotonic());
    // Nothing that was foreseen: then where it happened is worth more than what it says.
    const err = code === 'internal' && !(problem.cause instanceof ConnectError) ? { err: error } : {};
    if (again !== undefined) logger.warn({ ...about, code, reason, again, ...err }, this.#what);
    return problem;
  }
}
