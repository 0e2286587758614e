// A host of the lab: one network namespace, and what can be done in it. Also used for a pod, whose namespace
// somebody else made.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { Daemon, type DaemonOptions } from './daemon.ts';
import { type Ledger, MARK } from './ledger.ts';

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  /** Written to its standard input. */
  input?: string;
  timeoutMs?: number;
  env?: Record<string, string>;
}

export class Host {
  /** What people call it: `a1`. */
  readonly name: string;
  /** The file of its network namespace: `/run/netns/vl3t-x7k2p-a1`. */
  readonly netns: string;
  readonly ledger: Ledger;
  #daemons = 0;

  constructor(name: string, netns: string, ledger: Ledger) {
    this.name = name;
    this.netns = netns;
    this.ledger = ledger;
  }

  /** The command that runs `command` here. Only the network namespace changes, never the view of the file system. */
  inside(command: readonly string[]): string[] {
    return ['nsenter', `--net=${this.netns}`, '--', ...command];
  }

  /** Runs `command` here to its end, whatever its exit code. */
  async tryRun(command: readonly string[], options: RunOptions = {}): Promise<Result> {
    return execute(this.ledger, this.inside(command), options);
  }

  /** Runs `command` here and returns what it printed; an exit code other than 0 is an error. */
  async run(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.tryRun(command, options);
    if (result.code !== 0) throw new Error(failure(this.name, command, result));
    return result.stdout;
  }

  /** Starts a program that keeps running. */
  start(command: readonly string[], options: DaemonOptions = {}): Daemon {
    this.#daemons += 1;
    const program = command[0]?.split('/').pop() ?? '';
    const log = join(this.ledger.scratch, `${this.name}-${program}-${this.#daemons}.log`);
    return new Daemon(this.ledger, this.inside(command), log, options);
  }

  /** Carries out lines of `ip` commands: `link set lo up`. */
  async ip(...lines: string[]): Promise<void> {
    await this.run(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  async nft(rules: string): Promise<void> {
    await this.run(['nft', '-f', '-'], { input: rules });
  }

  /** Sets kernel settings by their path below /proc/sys/net: `ipv4/ip_forward`. */
  async set(settings: Record<string, number>): Promise<void> {
    const script = Object.entries(settings).map(([path, value]) => `echo ${value} >/proc/sys/net/${path}`);
    await this.run(['sh', '-ec', script.join('\n')]);
  }
}

/** Runs a command as part of the run `ledger` belongs to. */
export async function execute(
  ledger: Ledger,
  command: readonly string[],
  options: RunOptions = {},
): Promise<Result> {
  const [program = '', ...args] = command;
  return await new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      {
        env: { ...process.env, ...options.env, [MARK]: ledger.name },
        timeout: options.timeoutMs ?? 60_000,
        killSignal: 'SIGKILL',
        maxBuffer: 1 << 26,
      },
      (error, stdout, stderr) => {
        if (error === null) resolve({ code: 0, stdout, stderr });
        else if (error.killed)
          reject(new Error(`did not end in time: ${command.join(' ')}\n${stdout}${stderr}`));
        else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
        else reject(error);
      },
    );
    // A program may end without reading all its input; its exit code tells what that means.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? '');
  });
}

export function failure(where: string, command: readonly string[], result: Result): string {
  return `${where}: ${command.join(' ')}: exit code ${result.code}\n${result.stdout}${result.stderr}`.trimEnd();
}
