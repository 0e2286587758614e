// L6: whatever is wrong with the configuration or the machine, a program that cannot start says so in one sentence that
// names the field or the thing and the remedy, ends with another code than 0, and has made nothing: no directory, no
// interface, no namespace, and the join token is still good.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Domain } from '../lab/domain.ts';
import type { Result } from '../lab/host.ts';
import { vl3 } from '../lab/program.ts';

const [FAILED, USAGE] = [1, 2];

let domain: Domain;
let token: string;
let count = 0;

beforeAll(async () => {
  domain = await Domain.start();
  token = await domain.token('--node', 'nobody');
}, 120_000);

afterAll(() => domain?.close());

const asNobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];

interface Attempt {
  /** The lines of the configuration file, besides those that say where things are. */
  readonly file?: string;
  readonly args?: readonly string[];
  readonly env?: Record<string, string>;
  /** Put before the command. */
  readonly wrap?: readonly string[];
  readonly stateDir?: string;
}

interface Place {
  readonly stateDir: string;
  readonly runDir: string;
  readonly file: string;
  readonly prefix: string;
}

const newPlace = (stateDir: string | undefined): Place => {
  count += 1;
  const directory = join(domain.lab.scratch, `l6-${count}`);
  mkdirSync(directory, { mode: 0o755 });
  return {
    stateDir: stateDir ?? join(directory, 'state'),
    runDir: join(directory, 'run'),
    file: join(directory, 'config.yaml'),
    prefix: domain.lab.owns(`${domain.lab.name}-l6-${count}-`),
  };
};

/** What a program could have left: interfaces and namespaces, ours and all others' names. */
const footprint = async (): Promise<string[]> => {
  const links = await domain.host.run(['ip', '-brief', 'link']);
  const namespaces = await domain.host.run(['ip', 'netns', 'list']);
  const own = namespaces.split('\n').filter((line) => line.startsWith(`${domain.lab.name}-l6-`));
  return [...links.split('\n').map((line) => line.split(' ')[0] ?? ''), ...own];
};

/** Runs `vl3 agent run` or `vl3 registry run`, which must fail and leave nothing. */
const refused = async (
  program: 'agent' | 'registry',
  attempt: Attempt,
): Promise<Result & { file: string }> => {
  const { stateDir, runDir, file, prefix } = newPlace(attempt.stateDir);
  const places: Record<string, string> =
    program === 'agent'
      ? { 'state-dir': stateDir, 'run-dir': runDir, 'netns-prefix': prefix }
      : { 'state-dir': stateDir, listen: '198.51.100.5:7499', 'trust-domain': 'other.example' };
  const lines = Object.entries(places).map(([key, value]) => `${key}: ${value}\n`);
  writeFileSync(file, `${attempt.file ?? ''}\n${lines.join('')}`);
  // Somebody else cannot read the lab's files.
  const flags = Object.entries(places).flatMap(([key, value]) => [`--${key}`, value]);
  const where = attempt.wrap === asNobody ? flags : ['--config', file];
  const before = await footprint();
  const command = vl3(program, 'run', ...where, ...(attempt.args ?? []));
  const env = { ...(program === 'agent' ? { VL3_TOKEN: token } : {}), ...attempt.env };
  const result = await domain.host.tryRun([...(attempt.wrap ?? []), ...command], { env, timeoutMs: 60_000 });
  expect(await footprint()).toEqual(before);
  expect({ state: existsSync(stateDir), run: existsSync(runDir) }).toEqual({ state: false, run: false });
  return { ...result, file };
};

const expectSentence = (result: Result, code: number, sentence: RegExp): void => {
  expect(result.stderr).toMatch(sentence);
  expect(result.stderr.trim().split('\n')).toHaveLength(1);
  expect(result.stderr).toMatch(/^vl3: /);
  expect(result).toMatchObject({ code, stdout: '' });
};

const IN_MOUNTS = ['unshare', '--mount', 'sh', '-c'];

describe('an agent does not start', () => {
  test.each<[string, Attempt, number, RegExp]>([
    [
      'with bad YAML',
      { file: 'name: "a' },
      USAGE,
      /config\.yaml:\d+:\d+: this is not the YAML it should be .*: mend it/,
    ],
    [
      'with an unknown field',
      { file: 'networks: [red]' },
      USAGE,
      /:1:1: there is no setting "networks": did you mean "network"\?/,
    ],
    [
      'with a bad value',
      { file: 'port: 70000' },
      USAGE,
      /:1:7: port "70000": write a whole number from 1 to 65535/,
    ],
    ['with a name that is none', { file: 'name: Edge_1' }, USAGE, /:1:7: name "Edge_1": use a DNS label/],
    [
      'with a network that is none',
      { file: 'network: [red, "no net"]' },
      USAGE,
      /network "no net": use a DNS label/,
    ],
    [
      'with a bad variable',
      { env: { VL3_AGENT_LOG_LEVEL: 'loud' } },
      USAGE,
      /VL3_AGENT_LOG_LEVEL: log-level "loud": choose one of/,
    ],
    [
      'with an unknown variable',
      { env: { VL3_AGENT_NETWORKS: 'x' } },
      USAGE,
      /no setting VL3_AGENT_NETWORKS: did you mean VL3_AGENT_NETWORK\?/,
    ],
    [
      'with two tokens',
      { file: 'token: a\ntoken-file: b', env: { VL3_TOKEN: '' } },
      USAGE,
      /both token and token-file are set: leave one/,
    ],
    ['with a token that is none', { env: { VL3_TOKEN: 'hello' } }, FAILED, /token/],
    [
      'without a token',
      { env: { VL3_TOKEN: '' } },
      FAILED,
      /has not enrolled: give it a join token with --token/,
    ],
    [
      'without its token file',
      { args: ['--token-file', '/nonexistent'] },
      FAILED,
      /cannot read the token file \/nonexistent: check --token-file/,
    ],
    [
      'on a kernel that is too old',
      { wrap: ['setarch', '--uname-2.6'] },
      FAILED,
      /this kernel is Linux 2\.6\.\d+\S*: the agent needs 5\.4 or newer: upgrade it/,
    ],
    [
      'without /dev/net/tun',
      { wrap: [...IN_MOUNTS, 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'] },
      FAILED,
      /no \/dev\/net\/tun: load the kernel module \(modprobe tun\)/,
    ],
    [
      'without privilege',
      { wrap: asNobody },
      FAILED,
      /run this as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN/,
    ],
    [
      'with a state directory below a file',
      { stateDir: '/etc/passwd/vl3' },
      FAILED,
      /cannot write to \/etc\/passwd \(it is no directory\): .*--state-dir/,
    ],
    [
      'with a state directory on a read-only disk',
      { stateDir: '/mnt/vl3-l6', wrap: [...IN_MOUNTS, 'mount -t tmpfs -o ro none /mnt && exec "$@"', 'sh'] },
      FAILED,
      /cannot write to \/mnt \(EROFS\): mend that, or choose another --state-dir than \/mnt\/vl3-l6/,
    ],
    [
      'with a run directory below a file',
      { args: ['--run-dir', '/etc/passwd/vl3'] },
      FAILED,
      /cannot write to \/etc\/passwd .*--run-dir/,
    ],
    [
      'with metrics on an address of another',
      { file: 'metrics-listen: 192.0.2.99:9643' },
      FAILED,
      /192\.0\.2\.99:9643 cannot be listened on \(EADDRNOTAVAIL\): choose another --metrics-listen/,
    ],
    [
      'with metrics on a taken port',
      { file: 'metrics-listen: 198.51.100.5:7443' },
      FAILED,
      /198\.51\.100\.5:7443 is taken by another program: choose another --metrics-listen/,
    ],
  ])('%s', async (_, attempt, code, sentence) => {
    expectSentence(await refused('agent', attempt), code, sentence);
  });

  test('on a UDP port that is taken', async () => {
    const script = `const s = (await import('node:dgram')).createSocket('udp4'); s.bind(51999, () => console.log('bound'))`;
    const other = domain.host.start([process.execPath, '--input-type=module', '-e', script]);
    await other.printed(/bound/, 20_000);
    try {
      expectSentence(await refused('agent', { file: 'port: 51999' }), FAILED, /51999.*--port/);
    } finally {
      await other.stop();
    }
  });

  test('and its join token is still good', async () => {
    const tokens = await domain.adminJson<{ usedAt: string }[]>('token', 'list');
    expect(tokens).toHaveLength(1);
    expect(tokens[0]?.usedAt).toBe('');
  });
});

describe('a registry does not start', () => {
  test.each<[string, Attempt, number, RegExp]>([
    [
      'with bad YAML',
      { file: 'advertise: [a' },
      USAGE,
      /config\.yaml:\d+:\d+: this is not the YAML it should be/,
    ],
    [
      'with an unknown field',
      { file: 'state: /x' },
      USAGE,
      /:1:1: there is no setting "state": did you mean "state-dir"\?/,
    ],
    [
      'with a bad address',
      { file: 'advertise: http://x' },
      USAGE,
      /:1:12: advertise "http:\/\/x": write an address like/,
    ],
    [
      'with a trust domain that is none',
      { env: { VL3_REGISTRY_TRUST_DOMAIN: 'Not a domain' } },
      USAGE,
      /VL3_REGISTRY_TRUST_DOMAIN: trust-domain "Not a domain": use at most 255 lowercase letters/,
    ],
    [
      'with an empty variable for a list',
      { env: { VL3_REGISTRY_ADVERTISE: 'a,,b' } },
      USAGE,
      /VL3_REGISTRY_ADVERTISE: advertise is empty: leave it out/,
    ],
    [
      'on a port that is taken',
      { args: ['--listen', '198.51.100.5:7443'] },
      FAILED,
      /198\.51\.100\.5:7443 is taken by another program .*--listen/,
    ],
    [
      'on an address of another',
      { args: ['--listen', '192.0.2.99'] },
      FAILED,
      /192\.0\.2\.99:7443 is no address of this machine: choose another --listen/,
    ],
    [
      'with a state directory below a file',
      { stateDir: '/etc/passwd/vl3' },
      FAILED,
      /cannot write to \/etc\/passwd .*--state-dir/,
    ],
    [
      'in a directory of another user',
      { stateDir: '/var/lib/vl3-l6', wrap: asNobody },
      FAILED,
      /cannot write to \/var\/lib \(EACCES\): .*--state-dir/,
    ],
    [
      'with metrics on its own port',
      { file: 'metrics-listen: 198.51.100.5:7443' },
      FAILED,
      /7443 is taken by another program: choose another --metrics-listen/,
    ],
  ])('%s', async (_, attempt, code, sentence) => {
    expectSentence(await refused('registry', attempt), code, sentence);
  });
});

describe('a configuration file is refused', () => {
  test.each([
    [
      'that is not there',
      ['--config', '/nonexistent.yaml'],
      /there is no configuration file \/nonexistent\.yaml: name another with --config/,
    ],
    [
      'that is a directory',
      ['--config', '/etc'],
      /cannot read the configuration file \/etc \(EISDIR.*: mend its permissions/,
    ],
  ])('%s', async (_, args, sentence) => {
    expectSentence(await domain.host.tryRun(vl3('agent', 'run', ...args)), USAGE, sentence);
    expectSentence(await domain.host.tryRun(vl3('registry', 'config', ...args)), USAGE, sentence);
  });

  test('that only another user may read', async () => {
    const file = join(domain.lab.scratch, 'secret.yaml');
    writeFileSync(file, 'name: a\n', { mode: 0o600 });
    const result = await domain.host.tryRun([...asNobody, ...vl3('agent', 'config', '--config', file)]);
    expectSentence(
      result,
      USAGE,
      /cannot read the configuration file .*secret\.yaml \(EACCES.*\): mend its permissions/,
    );
  });
});
