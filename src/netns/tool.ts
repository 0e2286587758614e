// Runs the kernel's own tools (ip, nft, sh) as short child processes, few at a time, each inside a namespace by
// nsenter. Arguments and standard input are passed as they are: no shell ever reads a value. Not here: what to say
// to them (ip, nft, sysctl).

import { execFile } from 'node:child_process';
import { type ErrorCode, Vl3Error } from '../../native-free/error.ts';
import { Gate } from './gate.ts';

export interface ToolCall {
  readonly program: 'ip' | 'nft' | 'sh' | 'true';
  readonly arguments: readonly string[];
  /** Path of the network namespace to run in; undefined: the agent's own. */
  readonly netns?: string | undefined;
  /** Given on standard input. */
  readonly input?: string;
  /** Calls of one lane run one after another, in the order they were made. */
  readonly lane?: string;
}

export interface ToolRunner {
  /** Standard output. Throws ToolFailure. An abort ends the process. */
  run(call: ToolCall, signal?: AbortSignal): Promise<string>;
}

/** A tool that could not be started, was ended, or refused: `message` holds its own words. */
export class ToolFailure extends Vl3Error {
  /** What it wrote on standard error. */
  readonly output: string;

  constructor(code: ErrorCode, message: string, output: string, cause?: unknown) {
    super(code, message, cause === undefined ? undefined : { cause });
    this.name = 'ToolFailure';
    this.output = output;
  }
}

export interface ToolsOptions {
  /** Processes at a time; past the number of cores more only makes each slower. */
  readonly parallel?: number;
  readonly timeoutMs?: number;
}

const MAX_OUTPUT = 64 * 1024 * 1024;

const packageOf = { ip: 'iproute2', nft: 'nftables', sh: 'dash', true: 'coreutils', nsenter: 'util-linux' };

const environment = (): NodeJS.ProcessEnv => ({
  PATH: `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`,
  LC_ALL: 'C',
});

export class Tools implements ToolRunner {
  readonly #gate: Gate;
  readonly #timeoutMs: number;
  readonly #lanes = new Map<string, Promise<unknown>>();

  constructor(options: ToolsOptions = {}) {
    this.#gate = new Gate(options.parallel ?? 4);
    this.#timeoutMs = options.timeoutMs ?? 20_000;
  }

  async run(call: ToolCall, signal?: AbortSignal): Promise<string> {
    if (call.lane === undefined) return this.#admit(call, signal);
    const before = this.#lanes.get(call.lane) ?? Promise.resolve();
    const turn = before.then(() => this.#admit(call, signal));
    const settled = turn.catch(() => undefined);
    this.#lanes.set(call.lane, settled);
    try {
      return await turn;
    } finally {
      if (this.#lanes.get(call.lane) === settled) this.#lanes.delete(call.lane);
    }
  }

  #admit(call: ToolCall, signal: AbortSignal | undefined): Promise<string> {
    return this.#gate.pass(() => this.#execute(call, signal));
  }

  #execute(call: ToolCall, signal: AbortSignal | undefined): Promise<string> {
    const program = call.netns === undefined ? call.program : 'nsenter';
    const args =
      call.netns === undefined ? call.arguments : [`--net=${call.netns}`, call.program, ...call.arguments];
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(new ToolFailure('aborted', 'the operation was given up', '', signal.reason));
        return;
      }
      const child = execFile(
        program,
        args,
        {
          env: environment(),
          timeout: this.#timeoutMs,
          killSignal: 'SIGKILL',
          maxBuffer: MAX_OUTPUT,
          ...(signal === undefined ? {} : { signal }),
        },
        (error, stdout, stderr) => {
          if (error === null) resolve(stdout);
          else reject(failure(call, program, error, stderr, this.#timeoutMs));
        },
      );
      // A tool that refuses early closes its input: its exit status says why.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(call.input ?? '');
    });
  }
}

const failure = (
  call: ToolCall,
  program: keyof typeof packageOf,
  error: Error & { code?: unknown; killed?: boolean },
  stderr: string,
  timeoutMs: number,
): ToolFailure => {
  const said = stderr.trim();
  if (error.name === 'AbortError')
    return new ToolFailure('aborted', 'the operation was given up', said, error);
  if (error.code === 'ENOENT' || /^nsenter: failed to execute/.test(said)) {
    const missing = error.code === 'ENOENT' ? program : call.program;
    const sentence = `"${missing}" is not installed: install the package ${packageOf[missing]}`;
    return new ToolFailure('failed-precondition', sentence, said, error);
  }
  if (error.killed === true) {
    const sentence = `"${call.program}" did not finish within ${timeoutMs} ms; the machine may be overloaded: try again`;
    return new ToolFailure('unavailable', sentence, said, error);
  }
  const step = failedLine(call, said);
  const doing = step === undefined ? call.program : `"${call.program} ${step}"`;
  const words = said.split('\n').filter((line) => !line.startsWith('Command failed'));
  const sentence = `${doing} failed: ${words.join('; ').slice(0, 2000) || error.message}`;
  return new ToolFailure(codeOf(said), withRemedy(sentence, said), said, error);
};

/** The line of the batch that `ip` names in "Command failed -:3". */
const failedLine = (call: ToolCall, said: string): string | undefined => {
  const line = /Command failed -:(\d+)/.exec(said)?.[1];
  return line === undefined ? undefined : call.input?.split('\n')[Number(line) - 1];
};

const codeOf = (said: string): ErrorCode => {
  if (/Operation not permitted|Permission denied|Read-only file system/.test(said))
    return 'permission-denied';
  if (/^nsenter: cannot open .*: No such/.test(said)) return 'not-found';
  if (/^nsenter: reassociate to namespace/.test(said)) return 'invalid-argument';
  return 'internal';
};

const withRemedy = (sentence: string, said: string): string => {
  if (/Read-only file system/.test(said))
    return `${sentence} (/proc/sys is read-only: run the agent privileged)`;
  if (codeOf(said) === 'permission-denied')
    return `${sentence} (run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN)`;
  return sentence;
};
