// The configuration file: flat YAML, a key for each setting, read as text only (no numbers, dates or booleans that
// YAML would guess: `1.10` stays what was written). Every refusal names file, line and column. Not here: what the
// values mean (resolve.ts).

import { closeSync, openSync, readSync } from 'node:fs';
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { Vl3Error } from '../../native-free/error.ts';
import { nearest } from './nearest.ts';
import type { Raw, Setting } from './setting.ts';

export interface FileValue {
  readonly raw: Raw;
  /** "file:line:column". */
  readonly where: string;
}

const MAX_BYTES = 1 << 20;

/** Undefined: there is no such file. Throws Vl3Error with a remedy when it cannot be read. */
export const readConfigFile = (path: string): string | undefined => {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw unreadable(path, cause);
  }
  try {
    const bytes = Buffer.alloc(MAX_BYTES + 1);
    let length = 0;
    for (;;) {
      const count = readSync(fd, bytes, length, bytes.length - length, null);
      length += count;
      if (count === 0 || length === bytes.length) break;
    }
    if (length > MAX_BYTES)
      throw new Vl3Error(
        'invalid-argument',
        `${path} is longer than 1 MiB: name the right file with --config`,
      );
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length));
  } catch (cause) {
    throw cause instanceof Vl3Error ? cause : unreadable(path, cause);
  } finally {
    closeSync(fd);
  }
};

const unreadable = (path: string, cause: unknown): Vl3Error =>
  new Vl3Error(
    'invalid-argument',
    `cannot read the configuration file ${path} (${cause instanceof Error ? cause.message.split(',')[0] : String(cause)}): mend its permissions or contents, or name another with --config`,
    { cause },
  );

/** The values in the file's text. Throws Vl3Error('invalid-argument') with place and remedy. */
export const parseConfigFile = (
  path: string,
  content: string,
  settings: readonly Setting[],
): Map<string, FileValue> => {
  const lines = new LineCounter();
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  const refuse = (where: string, sentence: string): never => {
    throw new Vl3Error('invalid-argument', `${where}: ${sentence}`);
  };
  const document = parseDocument(content, { lineCounter: lines, schema: 'failsafe', prettyErrors: false });
  const [fault] = [...document.errors, ...document.warnings];
  if (fault !== undefined) {
    refuse(
      place(fault.pos[0]),
      `this is not the YAML it should be (${fault.message.split('\n')[0]}): mend it`,
    );
  }
  const values = new Map<string, FileValue>();
  const { contents } = document;
  if (contents === null || (isScalar(contents) && contents.value === '')) return values;
  if (!isMap<Node, Node | null>(contents)) {
    return refuse(
      place(contents.range?.[0] ?? 0),
      'this is no list of "key: value" lines: write it like deploy/examples',
    );
  }
  for (const { key, value } of contents.items) {
    const where = place((value ?? key).range?.[0] ?? 0);
    const name = isScalar(key) ? String(key.value) : '';
    const known = settings.find((one) => one.key === name);
    if (known === undefined) {
      const meant = nearest(
        name,
        settings.map((one) => one.key),
      );
      refuse(
        place(key.range?.[0] ?? 0),
        `there is no setting "${name.slice(0, 60)}": did you mean "${meant}"?`,
      );
    }
    const raw = rawOf(value);
    if (raw === undefined) {
      refuse(where, `${name}: write ${known?.isList ? 'a list like [one, two]' : 'one value'} here`);
    } else if (known?.isList === false && typeof raw !== 'string') {
      refuse(where, `${name}: this takes one value, not a list: write "${name}: value"`);
    } else
      values.set(name, { raw: known?.isList && typeof raw === 'string' && raw !== '' ? [raw] : raw, where });
  }
  return values;
};

/** Undefined: neither text nor a list of texts. */
const rawOf = (value: Node | null): Raw | undefined => {
  if (value === null) return '';
  if (isAlias(value)) return undefined;
  if (isScalar(value)) return typeof value.value === 'string' ? value.value : '';
  if (!isSeq<Node | null>(value)) return undefined;
  const items = value.items.map((one) =>
    isScalar(one) && typeof one.value === 'string' ? one.value : undefined,
  );
  return items.every((one) => one !== undefined) ? items : undefined;
};
