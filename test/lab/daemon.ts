// A long-running program of the lab: its output goes to a file, so that it outlives the runner when asked to.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ledger } from './ledger.ts';
import { MARK } from './ledger.ts';
import { isRunning, startTime } from './processes.ts';

export interface DaemonOptions {
  env?: Record<string, string>;
  cwd?: string;
}

export class Daemon {
  readonly pid: number;
  readonly log: string;
  readonly #command: string;
  readonly #startTime: string;
  readonly #ended: Promise<void>;
  readonly #child: ChildProcess;

  /** Starts `command`; `log` is the file that gets its output. */
  constructor(ledger: Ledger, command: readonly string[], log: string, options: DaemonOptions = {}) {
    const [program = '', ...args] = command;
    const output = openSync(log, 'a');
    // A session of its own: an interrupt from the terminal reaches the runner, which then ends it in order.
    const child = spawn(program, args, {
      stdio: ['ignore', output, output],
      detached: true,
      env: { ...process.env, ...options.env, [MARK]: ledger.name },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    closeSync(output);
    this.#ended = new Promise((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve());
    });
    if (child.pid === undefined) throw new Error(`cannot start ${program}`);
    child.unref();
    this.pid = child.pid;
    this.log = log;
    this.#child = child;
    this.#command = command.join(' ');
    this.#startTime = startTime(child.pid) ?? '';
    ledger.record({ kind: 'process', pid: this.pid, startTime: this.#startTime });
  }

  get running(): boolean {
    return isRunning(this.pid, this.#startTime);
  }

  /** Everything it has printed so far, both streams. */
  output(): string {
    return readFileSync(this.log, 'utf8');
  }

  /** Resolves with the match once its output matches; rejects when it ends first or `timeoutMs` pass. */
  async printed(pattern: RegExp, timeoutMs = 40_000): Promise<RegExpExecArray> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const ended = !this.running;
      const match = pattern.exec(this.output());
      if (match) return match;
      if (ended) throw new Error(`ended before it printed ${pattern}: ${this.#command}\n${this.output()}`);
      if (performance.now() > deadline)
        throw new Error(`did not print ${pattern} in ${timeoutMs} ms: ${this.#command}\n${this.output()}`);
      await sleep(10);
    }
  }

  /** Sends `signal` and waits for the end; after `timeoutMs` it is killed. Returns its exit code, if it had one. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 5000): Promise<number | null> {
    if (this.running) {
      process.kill(this.pid, signal);
      this.#child.ref();
      const killer = setTimeout(() => process.kill(this.pid, 'SIGKILL'), timeoutMs);
      await this.#ended;
      clearTimeout(killer);
    } else {
      // It may have ended before we were told.
      this.#child.ref();
      await this.#ended;
    }
    return this.#child.exitCode;
  }
}
