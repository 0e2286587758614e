// The reference in the README, made from the program tree and the settings themselves, so that it cannot say anything
// else than the programs do.

import type { Argument, Command, Option } from 'commander';
import { buildProgram } from '../../cmd/vl3/program.ts';
import { agentSettings } from '../../src/config/agent-settings.ts';
import { caSettings } from '../../src/config/ca-settings.ts';
import { registrySettings } from '../../src/config/registry-settings.ts';
import { type ProgramSettings, type SettingsSchema, settingsOf } from '../../src/config/setting.ts';
import { webhookSettings } from '../../src/config/webhook-settings.ts';

/** The program tree, for looking at only. */
export const programTree = (): Command =>
  buildProgram({
    env: {},
    out: () => {},
    err: () => {},
    signal: new AbortController().signal,
    exit: () => {},
  });

/** Every command that does something, with its words: "network create". */
export const commandsOf = (command: Command, words: readonly string[] = []): [string, Command][] =>
  command.commands.length === 0
    ? [[words.join(' '), command]]
    : command.commands.flatMap((one) => commandsOf(one, [...words, one.name()]));

const PROGRAMS: readonly ProgramSettings<SettingsSchema>[] = [
  agentSettings,
  registrySettings,
  caSettings,
  webhookSettings,
];

/** Text in a table's cell. */
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

/** The program whose settings the command takes. */
const programOf = (words: string, command: Command): ProgramSettings<SettingsSchema> | undefined =>
  command.options.some(({ long }) => long === '--config')
    ? PROGRAMS.find((one) => words.startsWith(`${one.program} `))
    : undefined;

const isSettingOf = (program: ProgramSettings<SettingsSchema> | undefined, option: Option): boolean =>
  program !== undefined && settingsOf(program).some(({ key }) => option.long === `--${key}`);

const argumentText = (one: Argument): string => {
  const name = `${one.name()}${one.variadic ? '...' : ''}`;
  return one.required ? `<${name}>` : `[${name}]`;
};

/** Explained once for all commands. */
const COMMON = ['--config', '--admin', '--socket', '--output'];

const list = (words: readonly string[]): string => words.map((word) => `\`${word}\``).join(', ');

const takes = (words: string, command: Command): string => {
  const common = command.options.flatMap(({ long }) => (long != null && COMMON.includes(long) ? [long] : []));
  const program = programOf(words, command);
  const settings = command.options
    .filter((option) => isSettingOf(program, option))
    .map(({ long }) => long ?? '');
  const isWhole = program !== undefined && settings.length === settingsOf(program).length;
  const link = `[settings](#settings-of-vl3-${program?.program})`;
  const parts = [
    ...(common.length === 0 ? [] : [list(common)]),
    ...(isWhole ? [`all ${link}`] : settings.length === 0 ? [] : [`of the ${link} ${list(settings)}`]),
  ];
  return parts.length === 0 ? '' : ` Takes ${parts.join('; ')}.`;
};

const commandText = (words: string, command: Command): string => {
  const usage = ['vl3', words, ...command.registeredArguments.map(argumentText)].join(' ');
  const heading = `**\`${usage}\`**: ${command.description()}.${takes(words, command)}`;
  const program = programOf(words, command);
  const own = command.options.filter(
    (option) => !isSettingOf(program, option) && !COMMON.includes(option.long ?? ''),
  );
  if (own.length === 0) return heading;
  const rows = own.map(({ flags, description, mandatory, defaultValue, defaultValueDescription }) => {
    const byDefault = defaultValueDescription ?? defaultValue;
    const isSaid =
      byDefault === undefined || typeof byDefault === 'boolean' || description.includes('(default');
    const needed = mandatory && byDefault === undefined ? ' (required)' : '';
    return `| \`${cell(flags)}\` | ${cell(description)}${isSaid ? needed : cell(` (default: ${byDefault})`)} |`;
  });
  return [heading, '', '| option | meaning |', '| --- | --- |', ...rows].join('\n');
};

const settingsText = (program: ProgramSettings<SettingsSchema>): string => {
  const rows = settingsOf(program).map((one) => {
    const { key, placeholder, environment, description, otherwise, isList, isRequired } = one;
    const byDefault =
      typeof one.default === 'string' ? `\`${one.default}\`` : (otherwise ?? (isList ? 'none' : '-'));
    const many = isList ? '; a list' : '';
    return `| \`${key}\` | \`${placeholder}\` | \`${environment}\` | ${isRequired ? 'required' : byDefault} | ${cell(description)}${many} |`;
  });
  return [
    `### Settings of vl3 ${program.program}`,
    '',
    `File: \`${program.file}\` where there is one, or by \`--config\` or \`${program.environmentPrefix}CONFIG\`; annotated example:`,
    `[deploy/examples/${program.program}.yaml](deploy/examples/${program.program}.yaml).`,
    '',
    '| key, and `--key` | value | environment | default | meaning |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
};

/** Markdown. */
export const reference = (): string =>
  [
    '### Commands',
    '',
    'Every command takes `--help`, which has examples. Many share these:',
    '',
    '| option | meaning |',
    '| --- | --- |',
    '| `-o`, `--output <format>` | table (the default), json or yaml; JSON and YAML say the same |',
    "| `--admin <file>` | the admin's credential; `VL3_ADMIN`, else `/var/lib/vl3/registry/admin.json` |",
    "| `--socket <path>` | the agent's socket; `VL3_SOCKET`, else `/run/vl3/agent.sock` |",
    '| `--config <file>` | the configuration file, see the settings below |',
    '',
    commandsOf(programTree())
      .map(([words, command]) => commandText(words, command))
      .join('\n\n'),
    '',
    PROGRAMS.map(settingsText).join('\n\n'),
  ].join('\n');

const [BEGIN, END] = ['<!-- reference: made by `npm run reference` -->', '<!-- end of reference -->'];

/** The README with the present reference in it. */
export const withReference = (readme: string): string => {
  const begin = readme.indexOf(BEGIN);
  const end = readme.indexOf(END);
  if (begin < 0 || end < begin) throw new Error('the README has no place for the reference');
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${reference()}\n\n${readme.slice(end)}`;
};
