// What a command gets from the world: environment, output and cancellation are passed in, so that a test never
// touches the process. Also the exit codes, which are part of the interface.

import type { Command } from 'commander';

export interface Context {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Writes a line (the newline is added). */
  readonly out: (line: string) => void;
  readonly err: (line: string) => void;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** Sets the exit code the process ends with. */
  readonly exit: (code: number) => void;
}

/** A file that adds a group of commands. */
export type CommandGroup = (program: Command, context: Context) => void;

export const EXIT = {
  ok: 0,
  /** The operation failed; the sentence on stderr says why. */
  failed: 1,
  /** The command line, the environment or the configuration file is wrong. */
  usage: 2,
  /** The registry or the agent could not be reached. */
  unavailable: 3,
  /** `status`: reached, but something is wrong. */
  unhealthy: 4,
  /** `attach`, `run`: some of it is not available; it is attached as soon as it is. */
  pending: 5,
  /** `admission test`: it would not be admitted. */
  refused: 6,
  /** Ended by SIGINT or SIGTERM before it was done. */
  interrupted: 130,
} as const;
