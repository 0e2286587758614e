// How results are printed: a table for people, JSON for programs.

import Table from 'cli-table3';
import { Option } from 'commander';
import type { Context } from './context.ts';

export type OutputFormat = 'table' | 'json';

export const outputOption = (): Option =>
  new Option('-o, --output <format>', 'table or json').choices(['table', 'json']).default('table');

export const printJson = (context: Context, value: unknown): void => {
  context.out(JSON.stringify(value, null, 2));
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
