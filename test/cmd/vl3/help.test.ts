// What a newcomer types first: help, typing errors, and a script's unset variables.

import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import type { Context } from '../../../cmd/vl3/context.ts';
import { run } from '../../../cmd/vl3/program.ts';
import { commandsOf, programTree } from '../../reference/reference.ts';

const attempt = async (...args: string[]): Promise<{ code: number; out: string; err: string }> => {
  const seen = { code: 0, out: '', err: '' };
  const context: Context = {
    env: { VL3_ADMIN: '', VL3_SOCKET: '' },
    out: (line) => {
      seen.out += `${line}\n`;
    },
    err: (line) => {
      seen.err += `${line}\n`;
    },
    signal: new AbortController().signal,
    exit: (code) => {
      seen.code = code;
    },
  };
  await run(args, context);
  return seen;
};

const COMMANDS = commandsOf(programTree()).map(([words]) => words);

test('help of every command leads to all of them', async () => {
  const below = async (words: readonly string[]): Promise<string[]> => {
    const { code, out } = await attempt(...words, '--help');
    expect(code).toBe(0);
    const [, list = ''] = /^Commands:\n((?: .*\n?)*)/m.exec(out) ?? [];
    const names = [...list.matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(([, name = '']) => name);
    const commands = names.filter((name) => name !== 'help');
    if (commands.length === 0) return [words.join(' ')];
    return (await Promise.all(commands.map((name) => below([...words, name])))).flat();
  };
  expect(COMMANDS.length).toBeGreaterThan(20);
  expect((await below([])).sort()).toEqual([...COMMANDS].sort());
});

test.each(COMMANDS)('the examples of vl3 %s use options that it has', async (command) => {
  const { code, out } = await attempt(...command.split(' '), '--help');
  expect(code).toBe(0);
  const [options = '', examples = ''] = out.split('Examples:\n');
  const lines = examples
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith(`vl3 ${command}`));
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) {
    const own = line.split(' -- ')[0]?.replace(/"\$\(.*\)"/, '') ?? '';
    for (const [option] of own.matchAll(/--[a-z0-9-]+/g)) expect(options).toContain(option);
  }
});

test.each([
  [['token', 'create', '--node', '']],
  [['network', 'create', 'red', '--pool-v4', '']],
  [['network', 'create', 'red', '--pool-v4', '10.1.0.0/16', '--exclude', '']],
  [['node', 'list', '--admin', '']],
  [['attach', '--network', 'red', '--netns', '']],
  [['status', '--socket', '']],
])('%j is refused: an empty value is not the same as none', async (args) => {
  const { code, err } = await attempt(...args);
  expect(code).toBe(2);
  expect(err).toMatch(/^error: option '.*' is empty/);
});

test('every command that prints a result prints it as a table, JSON or YAML', () => {
  const formats = commandsOf(programTree()).flatMap(([words, { options }]) =>
    options.flatMap(({ long, argChoices }) => (long === '--output' ? [{ words, argChoices }] : [])),
  );
  expect(formats.length).toBeGreaterThan(12);
  for (const one of formats) expect(one).toMatchObject({ argChoices: ['table', 'json', 'yaml'] });
});

test('YAML says what JSON says', async () => {
  const args = ['agent', 'config', '--network', 'red', '--network', 'green', '--name', 'a1', '-o'];
  const [json, yaml] = [await attempt(...args, 'json'), await attempt(...args, 'yaml')];
  expect(yaml).toMatchObject({ code: 0, err: '' });
  expect(parse(yaml.out)).toEqual(JSON.parse(json.out));
  expect(parse(yaml.out)).toContainEqual({ key: 'network', value: ['red', 'green'], from: '--network' });
});

test('an empty environment variable counts as unset', async () => {
  const { err } = await attempt('node', 'list');
  expect(err).toContain('/var/lib/vl3/registry/admin.json');
});

test('output that cannot be written is a failure, a reader that goes away is none', () => {
  const main = resolve(import.meta.dirname, '../../../cmd/vl3/main.ts');
  const sh = (script: string): SpawnSyncReturns<string> =>
    spawnSync('sh', ['-c', script, process.execPath, main], { encoding: 'utf8' });
  const full = sh('exec "$0" --disable-warning=ExperimentalWarning "$1" --help >/dev/full');
  expect(full.stderr).toMatch(/^vl3: cannot write the output: .*ENOSPC.*\n$/);
  expect(full.status).toBe(1);
  const gone = sh('("$0" --disable-warning=ExperimentalWarning "$1" --help; echo $? >&2) | true');
  expect(gone.stderr).toBe('0\n');
});
