// Settings on the command line: a flag for each, `--config`, and the command that shows what is in force and where it
// came from. What the settings are is in src/config.

import { resolve } from 'node:path';
import { type Command, CommanderError, Option } from 'commander';
import type { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import { type Resolved, resolveSettings } from '../../src/config/resolve.ts';
import {
  type ProgramSettings,
  type Raw,
  type Setting,
  type SettingsSchema,
  settingsOf,
} from '../../src/config/setting.ts';
import { readBy } from './arguments.ts';
import { type Context, EXIT } from './context.ts';
import { type OutputFormat, outputOption, print, printTable } from './output.ts';

/** Refuses at once what the setting's field refuses, and keeps the text; a path becomes absolute. */
const readFlag =
  ({ field, isList, isPath }: Setting) =>
  (given: string, previous: unknown): Raw => {
    const value = isPath === true && given !== '' ? resolve(given) : given;
    // An empty one is refused with the others', in words of its own.
    if (value !== '') readBy(field)(isList ? [value] : value);
    if (!isList) return value;
    return Array.isArray(previous) ? [...previous.map(String), value] : [value];
  };

const optionOf = (one: Setting): Option => {
  const { key, placeholder, description, otherwise, isList } = one;
  const repeated = isList ? '; may be repeated' : '';
  const byDefault = typeof one.default === 'string' ? one.default : otherwise;
  const unset = byDefault === undefined ? '' : ` (default: ${byDefault})`;
  const option = new Option(`--${key} ${placeholder}`, `${description}${repeated}${unset}`);
  return option.argParser(readFlag(one));
};

/** The flags of the settings named, or of all, and `--config`. */
export const withSettings = <Schema extends SettingsSchema>(
  command: Command,
  program: ProgramSettings<Schema>,
  keys?: readonly (keyof z.output<Schema> & string)[],
): Command => {
  command.addOption(
    new Option('--config <file>', `configuration file (default: ${program.file} where there is one)`),
  );
  for (const one of settingsOf(program)) {
    if (keys === undefined || keys.some((key) => key === one.key)) command.addOption(optionOf(one));
  }
  const { environmentPrefix: prefix } = program;
  return command.addHelpText(
    'after',
    `\nEvery setting may also be made in the configuration file, as its option without dashes, and in the environment
as ${prefix}<NAME>. Flags win over the environment, the environment over the file. See vl3 ${program.program} config.`,
  );
};

/** Says what is wrong and ends the command with the usage code. */
export const refuseSettings = (context: Context, sentence: string): never => {
  context.err(`vl3: ${sentence}`);
  throw new CommanderError(EXIT.usage, 'vl3.settings', sentence);
};

/** What is in force for a command with these flags. Says what is wrong and ends the command with the usage code. */
export const readSettings = <Schema extends SettingsSchema>(
  command: Command,
  program: ProgramSettings<Schema>,
  context: Context,
): Resolved<z.output<Schema>> => {
  const flags = new Map<string, Raw>();
  const all = settingsOf(program);
  for (const option of command.options) {
    const name = option.attributeName();
    const value: unknown = command.getOptionValue(name);
    const one = all.find(({ key }) => `--${key}` === option.long);
    if (one === undefined || command.getOptionValueSource(name) !== 'cli') continue;
    flags.set(one.key, Array.isArray(value) ? value.map(String) : String(value));
  }
  const file: unknown = command.getOptionValue('config');
  try {
    return resolveSettings(program, {
      environment: context.env,
      flags,
      ...(typeof file === 'string' ? { file } : {}),
    });
  } catch (error) {
    if (!(error instanceof Vl3Error)) throw error;
    return refuseSettings(context, error.message);
  }
};

/** `vl3 <program> config`. `check` refuses what no setting is wrong in by itself. */
export const addConfigCommand = <Schema extends SettingsSchema>(
  parent: Command,
  program: ProgramSettings<Schema>,
  context: Context,
  check: (settings: Resolved<z.output<Schema>>, context: Context) => void | Promise<void> = () => {},
): void => {
  const name = `vl3 ${program.program} config`;
  withSettings(parent.command('config'), program)
    .description('check the configuration, and show what is in force and where each value comes from')
    .addOption(outputOption())
    .addHelpText('after', `\nExamples:\n  ${name}\n  ${name} --config ./${program.program}.yaml -o yaml`)
    .action(async ({ output }: { output: OutputFormat }, command: Command) => {
      const settings = readSettings(command, program, context);
      await check(settings, context);
      const rows = settings.effective.map(({ key, raw, where, isSecret }) => ({
        key,
        value: isSecret ? '(not shown)' : raw,
        from: where,
      }));
      await print(context, output, rows, () =>
        printTable(
          context,
          ['SETTING', 'VALUE', 'FROM'],
          rows.map(({ key, value, from }) => [
            key,
            typeof value === 'string' ? value : value.join(' ') || '-',
            from,
          ]),
        ),
      );
    });
};
