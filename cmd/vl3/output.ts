// How results are printed: a table for people, JSON or YAML for programs. Every command with `-o` goes through `print`.

import Table from 'cli-table3';
import { Option } from 'commander';
import type { Context } from './context.ts';

const OUTPUT_FORMATS = ['table', 'json', 'yaml'] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

export const outputOption = (): Option =>
  new Option('-o, --output <format>', 'table, json or yaml').choices(OUTPUT_FORMATS).default('table');

/** Prints `value` as JSON or YAML, or calls `asTable`, which prints it for people. */
export const print = async (
  context: Context,
  format: OutputFormat,
  value: unknown,
  asTable: () => void,
): Promise<void> => {
  if (format === 'table') return asTable();
  const json = JSON.stringify(value, null, 2);
  if (format === 'json') return context.out(json);
  const { stringify } = await import('yaml');
  // Through JSON: both say the same.
  context.out(stringify(JSON.parse(json), { lineWidth: 0 }).trimEnd());
};

/** Prints rows under headings, columns two spaces apart. */
export const printTable = (
  context: Context,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): void => {
  const border = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: '  ',
  };
  const table = new Table({
    head: [...head],
    chars: border,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) table.push([...row]);
  for (const line of table.toString().split('\n')) context.out(line.trimEnd());
};

/** "3m ago", "2h ago"; `now` and `then` in Unix ms, 0 meaning never. */
export const formatAge = (then: number, now: number): string => {
  if (then === 0) return 'never';
  const seconds = Math.max(0, Math.round((now - then) / 1000));
  if (seconds < 120) return `${seconds}s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}m ago`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)}h ago`;
  return `${Math.round(seconds / 86_400)}d ago`;
};

/** "1.5 KiB", "3.2 GiB". */
export const formatBytes = (bytes: number): string => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
};
