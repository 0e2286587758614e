// Puts a program's settings together: defaults < file < environment < flags. Each source is validated whole, also where
// a stronger one wins, so that a mistake is found when it is made.

import type { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { parseConfigFile, readConfigFile } from './config-file.ts';
import { configVariable, type Environment, readEnvironment } from './environment.ts';
import { type ProgramSettings, type Raw, type Setting, type SettingsSchema, settingsOf } from './setting.ts';

/** Weakest first. */
export const ORIGINS = ['default', 'file', 'environment', 'flag'] as const;
export type Origin = (typeof ORIGINS)[number];

/** A setting that has a value, and where that came from. */
export interface Effective {
  readonly key: string;
  readonly raw: Raw;
  readonly origin: Origin;
  /** "/etc/vl3/agent.yaml:3:7", "VL3_AGENT_NAME", "--name", "default". */
  readonly where: string;
  readonly isSecret: boolean;
}

export interface Resolved<Values> {
  readonly values: Values;
  /** In the order of the settings; what has no value is left out. */
  readonly effective: readonly Effective[];
  /** The file that was read. */
  readonly file?: string;
}

export interface Sources {
  readonly environment: Environment;
  readonly flags: ReadonlyMap<string, Raw>;
  /** By `--config`. */
  readonly file?: string;
}

interface Given {
  readonly raw: Raw;
  readonly where: string;
}

/** Throws Vl3Error('invalid-argument') that names place, field and remedy. */
export const resolveSettings = <Schema extends SettingsSchema>(
  program: ProgramSettings<Schema>,
  sources: Sources,
): Resolved<z.output<Schema>> => {
  const settings = settingsOf(program);
  const { file, values: fromFile } = valuesOfFile(program, sources, settings);
  const fromEnvironment = readEnvironment(sources.environment, program.environmentPrefix, settings);
  const effective = settings.flatMap((one): Effective[] => {
    const { key, isSecret = false } = one;
    const ofEnvironment = fromEnvironment.get(key);
    const ofFlag = sources.flags.get(key);
    const given: [Origin, Given | undefined][] = [
      ['default', one.default === undefined ? undefined : { raw: one.default, where: 'default' }],
      ['file', fromFile.get(key)],
      [
        'environment',
        ofEnvironment === undefined ? undefined : { raw: ofEnvironment, where: one.environment },
      ],
      ['flag', ofFlag === undefined ? undefined : { raw: ofFlag, where: `--${key}` }],
    ];
    const present = given.flatMap(([origin, by]) =>
      by === undefined ? [] : [{ key, origin, isSecret, ...by }],
    );
    for (const by of present) check(one, by);
    return present.slice(-1);
  });
  const missing = settings.find(
    ({ key, isRequired }) => isRequired && !effective.some((one) => one.key === key),
  );
  if (missing !== undefined) throw isMissing(missing, file ?? program.file);
  return {
    values: program.schema.parse(Object.fromEntries(effective.map((one) => [one.key, one.raw]))),
    effective,
    ...(file === undefined ? {} : { file }),
  };
};

const valuesOfFile = <Schema extends SettingsSchema>(
  { file: byDefault, environmentPrefix }: ProgramSettings<Schema>,
  { file, environment }: Sources,
  settings: readonly Setting[],
) => {
  const named = file ?? (environment[configVariable(environmentPrefix)] || undefined);
  const path = named ?? byDefault;
  const content = readConfigFile(path);
  if (content !== undefined) return { file: path, values: parseConfigFile(path, content, settings) };
  if (named === undefined) return { values: new Map<string, Given>() };
  throw new Vl3Error(
    'invalid-argument',
    `there is no configuration file ${path}: name another with --config, or leave that out`,
  );
};

const check = ({ key, field, isSecret }: Setting, { raw, where }: Given): void => {
  const isEmpty = raw === '' || (typeof raw !== 'string' && raw.includes(''));
  if (isEmpty) {
    throw new Vl3Error('invalid-argument', `${where}: ${key} is empty: leave it out, or give it a value`);
  }
  const { error } = field.safeParse(raw);
  if (error === undefined) return;
  const [issue] = error.issues;
  const at = issue?.path[0];
  const wrong = typeof raw === 'string' ? raw : (raw[Number(at)] ?? raw.join(','));
  const shown = isSecret === true ? key : `${key} "${wrong.slice(0, 100)}"`;
  throw new Vl3Error('invalid-argument', `${where}: ${shown}: ${issue?.message ?? 'write another value'}`);
};

const isMissing = ({ key, environment, description }: Setting, file: string): Vl3Error =>
  new Vl3Error(
    'invalid-argument',
    `${key} is not set (${description}): give --${key}, ${environment}, or "${key}:" in ${file}`,
  );
