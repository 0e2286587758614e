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
import { agentSettings } from '../../../src/config/agent-settings.ts';
import { parseConfigFile } from '../../../src/config/config-file.ts';
import { readEnvironment } from '../../../src/config/environment.ts';
import { registrySettings } from '../../../src/config/registry-settings.ts';
import { resolveSettings } from '../../../src/config/resolve.ts';
import { settingsOf } from '../../../src/config/setting.ts';
import type { Source } from '../source.ts';
import { accepted, must, mustEqual, type OpenTarget, pure, type Target } from '../target.ts';

const BAD = ['invalid-argument'] as const;
const PROGRAMS = [
  { ...agentSettings, file: '/nonexistent/vl3.yaml' },
  { ...registrySettings, file: '/nonexistent/vl3.yaml' },
] as const;

const VALUES = [
  'n1',
  '51820',
  '7443',
  '6d',
  '90s',
  'info',
  '203.0.113.7:51820',
  '[2001:db8::1]:7443',
  '127.0.0.1:9643',
  'true',
  'null',
  '~',
  '1e3',
  '0x1f',
  '2026-01-01',
  '/tmp/x',
  '*a',
  '&a b',
  '!!js/function x',
  '"\\x00"',
  "'it''s'",
  '|\n  text',
  '<<: *a',
];

const someYaml = (source: Source, keys: readonly string[]): string => {
  const lines: string[] = [];
  for (let n = source.between(0, 6); n > 0; n--) {
    const key = source.textLike([...keys, 'no-such-key', '__proto__', '? [a]', '"node"'], 20);
    const value = source.textLike(VALUES, 30);
    const kind = source.between(0, 5);
    if (kind === 0) lines.push(`${key}: [${value}, ${value}]`);
    else if (kind === 1) lines.push(`${key}:\n  - ${value}\n  - ${value}`);
    else if (kind === 2) lines.push(`${key}:\n  ${value}: ${value}`);
    else lines.push(`${key}: ${value}`);
  }
  // What makes parsers recurse or swell.
  const deep = source.between(0, 40);
  if (deep === 0) lines.push(`deep: ${'['.repeat(source.u16())}`);
  if (deep === 1) lines.push(`deep: ${'{a: '.repeat(source.u16() >> 2)}`);
  if (deep === 2) lines.push(`a: &a [x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]`);
  if (deep === 3) lines.push(`${' -'.repeat(source.u16() >> 2)} x`);
  return lines.join('\n');
};

const fuzzConfig = (source: Source): void => {
  const program = source.pick(PROGRAMS);
  const settings = settingsOf(program);
  const keys = settings.map(({ key }) => key);
  const text = source.chance(230) ? someYaml(source, keys) : source.text(200);
  const values = accepted(BAD, () => parseConfigFile('f.yaml', text, settings));
  for (const [key, { raw, where }] of values ?? []) {
    must(keys.includes(key), () => `a setting "${key}" that there is not`);
    must(typeof raw === 'string' || raw.every((one) => typeof one === 'string'), 'a value that is no text');
    must(/^f\.yaml:\d+:\d+$/.test(where), () => `no place: ${where}`);
  }
  const environment: Record<string, string> = {};
  for (let n = source.between(0, 3); n > 0; n--) {
    const { environment: name } = source.pick(settings);
    environment[source.chance(200) ? name : `${program.environmentPrefix}${source.text(8)}`] =
      source.textLike(VALUES, 30);
  }
  accepted(BAD, () => readEnvironment(environment, program.environmentPrefix, settings));
  const flags = new Map<string, string | string[]>();
  for (let n = source.between(0, 4); n > 0; n--) {
    const { key, isList } = source.pick(settings);
    const value = source.textLike(VALUES, 30);
    flags.set(key, isList ? [value] : value);
  }
  const resolved = accepted(BAD, () =>
    resolveSettings<typeof program.schema>(program, { environment, flags }),
  );
  for (const { key, origin, where } of resolved?.effective ?? []) {
    const strongest = flags.has(key) ? 'flag' : undefined;
    must(
      strongest === undefined || origin === strongest,
      () => `${key} is by ${where} although there is a flag`,
    );
  }
};

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
  pure(
    'config',
    'a configuration is taken whole or refused with place and remedy, and flags win',
    250,
    fuzzConfig,
  ),
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
