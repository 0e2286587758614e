// What operators give the program: configuration files, environment, command lines; and requests to the agent's socket.

import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import pino from 'pino';
import { Vl3Error } from '../../../native-free/error.ts';
import { LocalApi, type LocalApiHandlers } from '../../../src/agent/local-api.ts';
import {
  type AttachRequest,
  attachRequestSchema,
  detachRequestSchema,
  stockPeerNameSchema,
  stockPeerRequestSchema,
} from '../../../src/agent/local-requests.ts';
import { addRequestSchema } from '../../../src/cni/requests.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, type OpenTarget, type Target } from '../target.ts';
import { settingsTarget } from './settings.ts';

const ARGUMENTS = [
  'registry',
  'run',
  'agent',
  'clean',
  'token',
  'create',
  'list',
  'revoke',
  'network',
  'show',
  'update',
  'delete',
  'node',
  'attach',
  'detach',
  'attachments',
  'status',
  'attachment',
  'backup',
  'restore',
  'settle',
  'config',
  '--help',
  '--version',
  '-o',
  'json',
  '--admin',
  '--pool-v4',
  '10.60.0.0/16',
  '--exclude',
  '--no-exclude',
  '--ttl',
  '1h',
  '--',
  '-',
  '--network',
  'red',
  '--label',
  'a=b',
  '__proto__=x',
  '--state-dir',
  '/nonexistent',
  '--listen',
  '[::1]:1',
  '--trust-domain',
  'x.example',
  '--no-such-option',
  '',
  '=',
  '--node=',
  'help',
  'constructor',
  'toString',
  '--mtu',
  '1280',
  '--advertise',
];

type Run = typeof import('../../../cmd/vl3/program.ts').run;

/** Commands' actions only take note: what is tried is how arguments are taken, and nothing is done. */
class CommandLine implements OpenTarget {
  readonly #action = Command.prototype.action;
  readonly #run: Run;
  #acted = 0;

  static async open(): Promise<CommandLine> {
    const { run } = await import('../../../cmd/vl3/program.ts');
    return new CommandLine(run);
  }

  private constructor(run: Run) {
    this.#run = run;
    const target = this;
    const { action } = Command.prototype;
    Command.prototype.action = function (this: Command) {
      return action.call(this, () => {
        target.#acted++;
      });
    };
  }

  async run(source: Source): Promise<void> {
    const args = Array.from({ length: source.between(0, 9) }, () => source.textLike(ARGUMENTS, 20));
    const before = process.exitCode;
    const codes: number[] = [];
    const lines = { out: '', err: '' };
    this.#acted = 0;
    await this.#run(args, {
      env: source.chance(60) ? { VL3_ADMIN: source.text(20), VL3_AGENT_NAME: source.text(20) } : {},
      out: (line) => {
        lines.out += line;
      },
      err: (line) => {
        lines.err += line;
      },
      signal: new AbortController().signal,
      exit: (code) => codes.push(code),
    });
    mustEqual(process.exitCode, before, 'the exit code of this process');
    must(this.#acted <= 1, 'two commands at once');
    must(!lines.err.includes('unexpected error'), () => `unexpected: ${lines.err}`);
    must(
      codes.every((code) => code === 0 || code === 2),
      () => `it ends with ${codes}`,
    );
    if (this.#acted === 0)
      must(
        codes.length > 0 && (codes.includes(0) ? lines.out : lines.err).length > 0,
        () => `no word on ${JSON.stringify(args)}`,
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Command.prototype.action = this.#action;
  }
}

const ATTACH = {
  network: 'red',
  netns: '/run/netns/x',
  workload: 'web',
  interfaceName: 'red',
  labels: { app: 'web' },
};
const STATUSES = [200, 400, 404];

/** The agent's socket, with an agent behind it that only checks what it is asked. */
class Socket implements OpenTarget {
  readonly #directory = mkdtempSync(join(tmpdir(), 'vl3t-fuzz-'));
  readonly #errors: string[] = [];
  #api: LocalApi | undefined;
  #broken: unknown;

  static async open(): Promise<Socket> {
    const socket = new Socket();
    const logger = pino({ level: 'error' }, { write: (line: string) => socket.#errors.push(line) });
    socket.#api = await LocalApi.listen(join(socket.#directory, 's'), socket.#handlers(), logger);
    return socket;
  }

  #handlers(): LocalApiHandlers {
    const check = (holds: boolean): void => {
      if (!holds) this.#broken = new Error('the agent was handed a request that is not sound');
    };
    const refuse = (): never => {
      throw new Vl3Error('not-found', 'there is no such thing in this test');
    };
    return {
      attach: async (asked: AttachRequest) => {
        check(attachRequestSchema.safeParse(asked).success && asked.netns.startsWith('/'));
        return refuse();
      },
      detach: async (asked) => {
        check(detachRequestSchema.safeParse(asked).success);
        return [];
      },
      attachments: () => [],
      stockPeers: {
        create: async (asked) => {
          check(stockPeerRequestSchema.safeParse(asked).success);
          return refuse();
        },
        list: () => [],
        remove: async (asked) => {
          check(stockPeerNameSchema.safeParse(asked).success);
          return undefined;
        },
      },
      status: async () => refuse(),
      cni: {
        add: async (asked) => {
          check(addRequestSchema.safeParse(asked).success && asked.netns.startsWith('/'));
          return refuse();
        },
        check: async () => refuse(),
        del: async ({ containerId }) => ({ detached: containerId.length }),
        gc: async ({ valid }) => ({ detached: valid.length }),
      },
    };
  }

  async run(source: Source): Promise<void> {
    this.#errors.length = 0;
    this.#broken = undefined;
    const route = source
      .textLike(
        [
          '/v1/attach',
          '/v1/detach',
          '/v1/stock-peers',
          '/v1/stock-peers/remove',
          '/v1/cni/add',
          '/v1/cni/del',
          '/v1/cni/gc',
          '/v1/attachments',
          '/v1/status',
          '/v1/status?probe=false',
          '//',
          '/v1/attach/../detach',
          '*',
          'http://x/v1/status',
          '//[',
          '/%',
        ],
        30,
      )
      .replace(/[^\x21-\x7e]/g, '');
    const method = source.pick(['POST', 'POST', 'POST', 'GET', 'PUT', 'OPTIONS', 'HEAD', 'DELETE']);
    const { status, text } = await this.#ask(method, route, this.#someBody(source));
    if (this.#broken !== undefined) throw this.#broken;
    mustEqual(this.#errors, [], 'what was logged as an error');
    must(STATUSES.includes(status), () => `${method} ${route}: ${status} ${text}`);
    if (method === 'HEAD' || status === 200 || (status === 400 && text === '')) return;
    const answer: { code?: unknown; message?: unknown } = JSON.parse(text);
    must(
      typeof answer.code === 'string' && typeof answer.message === 'string' && answer.message.length > 10,
      () => `no sentence: ${text}`,
    );
  }

  #someBody(source: Source): Uint8Array {
    const value: Record<string, unknown> = source.chance(180) ? { ...ATTACH } : { id: 'a1' };
    for (let n = source.between(0, 3); n > 0; n--) {
      const key = source.textLike(Object.keys(ATTACH), 12);
      value[key] = source.pick([
        source.textLike(['red', '/run/netns/x', 'eth0', ''], 100),
        source.number(),
        null,
        [],
        {},
        { [source.text(70)]: source.text(70) },
      ]);
    }
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    if (source.chance(4)) return new Uint8Array(70_000).fill(32);
    return source.chance(80) ? source.mutated(bytes, 3) : bytes;
  }

  #ask(method: string, path: string, body: Uint8Array): Promise<{ status: number; text: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
    const call = request(
      {
        socketPath: this.#api?.path ?? '',
        method,
        path: path === '' ? '/' : path,
        headers: { 'content-length': body.length },
      },
      (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += String(chunk);
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        response.on('error', reject);
      },
    );
    call.setTimeout(20_000, () => call.destroy(new Error(`${method} ${path} is not answered`)));
    call.on('error', (error: NodeJS.ErrnoException) => {
      // Whoever sends much to a path that takes nothing may be cut off before he has read why.
      if (error.code === 'ECONNRESET' && body.length > 65_536) resolve({ status: 400, text: '' });
      else reject(error);
    });
    call.end(body);
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#api?.[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export const programTargets: readonly Target[] = [
  settingsTarget,
  {
    name: 'command-line',
    about: 'a command line runs one command or is told what is wrong with it',
    maxLength: 250,
    open: () => CommandLine.open(),
  },
  {
    name: 'local-api',
    about: 'the agent is asked what is sound, and everything else is refused with a sentence',
    maxLength: 250,
    open: () => Socket.open(),
  },
];
