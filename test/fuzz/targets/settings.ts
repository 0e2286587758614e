// A program's settings, from a file, the environment and flags.

import { agentSettings } from '../../../src/config/agent-settings.ts';
import { parseConfigFile } from '../../../src/config/config-file.ts';
import { readEnvironment } from '../../../src/config/environment.ts';
import { registrySettings } from '../../../src/config/registry-settings.ts';
import { resolveSettings } from '../../../src/config/resolve.ts';
import { settingsOf } from '../../../src/config/setting.ts';
import type { Source } from '../source.ts';
import { accepted, must, pure } from '../target.ts';

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

export const settingsTarget = pure(
  'config',
  'a configuration is taken whole or refused with place and remedy, and flags win',
  250,
  fuzzConfig,
);
