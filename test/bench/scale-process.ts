// A registry of its own process for measurements: started, killed and started again on one port, with what it costs.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { vl3 } from '../lab/program.ts';
import { unusedPort } from '../lab/unused-port.ts';

export interface Cost {
  /** Of user and system together, since its start. */
  readonly cpuSeconds: number;
  readonly rssMegabytes: number;
}

const TICKS_A_SECOND = 100;

export class RegistryProcess implements AsyncDisposable {
  readonly directory: string;
  readonly port: number;
  #child: ChildProcess | undefined;

  private constructor(directory: string, port: number) {
    this.directory = directory;
    this.port = port;
  }

  /** `directory`: an empty one, for its state and its log. */
  static async start(directory: string): Promise<RegistryProcess> {
    const registry = new RegistryProcess(directory, await unusedPort());
    await registry.start();
    return registry;
  }

  get adminFile(): string {
    return join(this.directory, 'state/admin.json');
  }

  /** Resolves once its port takes connections; the first start writes the admin's credential just after. */
  async start(): Promise<void> {
    const [program = '', ...args] = vl3('registry', 'run', '--trust-domain', 'scale.example');
    const where = ['--listen', `127.0.0.1:${this.port}`, '--state-dir', join(this.directory, 'state')];
    const log = openSync(join(this.directory, 'log'), 'a');
    const extra = (process.env['REGISTRY_NODE_OPTIONS'] ?? '').split(' ').filter((option) => option !== '');
    const child = spawn(program, [...extra, ...args, ...where, '--log-level', 'warn'], {
      stdio: ['ignore', log, log],
      cwd: this.directory,
    });
    closeSync(log);
    this.#child = child;
    while (!(await this.#answers()) || !existsSync(this.adminFile)) {
      if (child.exitCode !== null) throw new Error(`the registry ended: see ${join(this.directory, 'log')}`);
      await sleep(10);
    }
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    child.kill(signal);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  cost(): Cost {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error('the registry is not running');
    // proc(5): fields 14 and 15, counted after the name in parentheses.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND,
      rssMegabytes: Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('SIGTERM');
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.port, '127.0.0.1');
      const done = (answers: boolean) => {
        socket.destroy();
        resolve(answers);
      };
      socket.on('connect', () => done(true));
      socket.on('error', () => done(false));
    });
  }
}
