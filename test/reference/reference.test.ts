// The README against the programs: its reference is what the program tree says, and what it names besides is there.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { EXIT } from '../../cmd/vl3/context.ts';
import { commandsOf, programTree, withReference } from './reference.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');

test('the reference in the README is what the programs say (else: npm run reference)', () => {
  expect(withReference(readme)).toBe(readme);
});

test('every command that the README shows is there, and so are its options', () => {
  const commands = commandsOf(programTree());
  const shown = [...readme.matchAll(/^vl3 (.*?)(?: {2,}#.*)?$/gm)].map(
    ([, line = '']) => line.split(' -- ')[0] ?? '',
  );
  const inline = [...readme.matchAll(/`vl3 ([a-z][^`]*)`/g)].map(([, line = '']) =>
    line.replace(/\s+/g, ' '),
  );
  expect(shown.length).toBeGreaterThanOrEqual(8);
  expect(inline.length).toBeGreaterThan(20);
  for (const line of [...shown, ...inline]) {
    const found = commands
      .filter(([words]) => line === words || line.startsWith(`${words} `) || words.startsWith(`${line} `))
      .sort(([a], [b]) => b.length - a.length)[0];
    expect(found, line).toBeDefined();
    const known = found?.[1].options.flatMap(({ long, short }) => [long, short]) ?? [];
    for (const [, option = ''] of line.matchAll(/ (--?[a-z][a-z0-9-]*)/g))
      expect(known, line).toContain(option);
  }
});

test('every service unit starts a command that is there, and does not repeat a wrong configuration', () => {
  const commands = commandsOf(programTree()).map(([words]) => words);
  const folder = join(ROOT, 'deploy/systemd');
  for (const unit of readdirSync(folder)) {
    const text = readFileSync(join(folder, unit), 'utf8');
    expect(commands).toContain(/^ExecStart=\/usr\/local\/bin\/vl3 (.*)$/m.exec(text)?.[1]);
    expect(text).toContain(`\nRestartPreventExitStatus=${EXIT.usage}\n`);
  }
});

test('every exit code is in the README, and no other', () => {
  const [, table = ''] = /### Exit codes\n([\s\S]*?)\n#/.exec(readme) ?? [];
  const codes = [...table.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code));
  expect(codes).toEqual([...new Set(Object.values(EXIT))].sort((a, b) => a - b));
});

test('every file of the repository that README, ARCHITECTURE and SECURITY link to is there', () => {
  for (const name of ['README.md', 'ARCHITECTURE.md', 'SECURITY.md']) {
    const text = readFileSync(join(ROOT, name), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\(([^)#:]+)\)/g))
      expect(existsSync(join(ROOT, target)), target).toBe(true);
  }
});

test('every script that the README names is in package.json', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const [, script = ''] of readme.matchAll(/npm (?:run )?([a-z:]+)/g)) {
    if (['ci', 'install'].includes(script)) continue;
    expect(Object.keys(scripts)).toContain(script);
  }
});

test('every test that SECURITY.md names as evidence is there, under that name', () => {
  const security = readFileSync(join(ROOT, 'SECURITY.md'), 'utf8');
  const named = [...security.matchAll(/`(test\/[\w./-]+\.test\.ts)`((?:[:,]\s+"[^"]+")*)/g)];
  expect(named.length).toBeGreaterThan(20);
  for (const [, file = '', list = ''] of named) {
    expect(existsSync(join(ROOT, file)), file).toBe(true);
    const source = readFileSync(join(ROOT, file), 'utf8');
    for (const [, name = ''] of list.matchAll(/"([^"]+)"/g))
      expect(source, file).toContain(name.replace(/\s+/g, ' '));
  }
});
