// Parsers of command-line values: strict, with a sentence that shows how to write the value.

import { InvalidArgumentError } from 'commander';
import type { z } from 'zod';
import { duration, integer } from '../../src/config/fields.ts';
import type { Raw } from '../../src/config/setting.ts';

/** What a setting's field reads, for options that are no settings. */
export const readBy =
  <Value>(field: z.ZodType<Value>) =>
  (value: Raw): Value => {
    const { data, error } = field.safeParse(value);
    if (error === undefined) return data;
    const remedy = error.issues[0]?.message ?? 'write another value';
    throw new InvalidArgumentError(`${remedy.charAt(0).toUpperCase()}${remedy.slice(1)}.`);
  };

/** For options that may be repeated. */
export const collect = (value: string, previous: readonly string[] | undefined): string[] => [
  ...(previous ?? []),
  value,
];

/** `key=value`, repeated. */
export const collectLabel = (
  value: string,
  previous: Readonly<Record<string, string>> | undefined,
): Record<string, string> => {
  const at = value.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Write a label as key=value.');
  return { ...previous, [value.slice(0, at)]: value.slice(at + 1) };
};

export const parseInteger = (min: number, max: number) => readBy(integer(min, max));

/** "90s", "15m", "1h", "7d" to seconds. */
export const parseDuration = readBy(duration());
