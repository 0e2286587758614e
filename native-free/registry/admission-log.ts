// The log of what was decided: each line names the hash of the one before, and the head names the last, so that whoever has
// seen a head can tell whether what came before was changed. Whose lines push out whose is bounded by whose they are:
// admins', those of the domain's nodes, and each partner's are chains of their own, of so many lines, and the oldest of a
// chain go. All lines have one numbering. Signing the head, and telling what was kept, is src/registry/admission-service.ts.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import {
  type LogEntry,
  type LogHead,
  logEntry,
  logHead,
  type OwnLogHead,
  ownLogHead,
} from './admission-model.ts';
import { foreignDomainOf } from './foreign-key.ts';
import { keys, one } from './keys.ts';
import { encodeValue } from './model.ts';
import { put } from './rules.ts';
import type { State } from './state.ts';
import type { Operation, Range } from './transaction.ts';

/** Of what admins and invitations changed, and as many of what the domain's nodes asked for. */
export const MAX_LOG_ENTRIES = 10_000;
/** Of each partner. */
export const MAX_PARTNER_LOG_ENTRIES = 2000;

export const NO_HASH = '0'.repeat(64);
export const NO_LOG: LogHead = { sequence: 0, hash: NO_HASH };
const NO_LINES: OwnLogHead = { lines: 0, hash: NO_HASH };

/** No trust domain is called so. */
const OF_NODES = '@nodes';

export const hashOf = (entry: Uint8Array): string => bytesToHex(sha256(entry));

/** Whose log a decision on the node is in. */
export const logOf = (node: string): string => foreignDomainOf(node) ?? OF_NODES;

const most = (of: string | undefined): number =>
  of === undefined || of === OF_NODES ? MAX_LOG_ENTRIES : MAX_PARTNER_LOG_ENTRIES;

/** How many lines of a chain there are, when there have been so many. */
export const keptLines = (of: string | undefined, lines: number): number => Math.min(lines, most(of));

/** What LogWriter.of reads. Whoever writes compares that the head did not change: every line changes it. */
export const logReads = (of: string): Range[] => [one(keys.logHead), one(keys.logHeadOf(of))];

/** What is added to the log within one transaction. */
export class LogWriter {
  readonly #at: number;
  readonly #of: string | undefined;
  #head: LogHead;
  #own: OwnLogHead;
  readonly #operations: Operation[] = [];
  #lines = 0;

  /** Of what admins do; `of`: see logOf, with the head of that log. */
  constructor(head: LogHead, at: number, of?: string, own: OwnLogHead = NO_LINES) {
    this.#head = head;
    this.#at = at;
    this.#of = of;
    // Before there were several, lines were numbered as they came.
    this.#own = of === undefined ? { lines: head.lines ?? head.sequence, hash: head.hash } : own;
  }

  /** Of what is decided on a node's attachments. */
  static of(state: State, of: string, at: number): LogWriter {
    return new LogWriter(state.logHead()?.value ?? NO_LOG, at, of, state.logHeadOf(of)?.value);
  }

  /** How many operations it takes at most to add one, with the heads. */
  static readonly OPERATIONS = 4;

  add(entry: Omit<LogEntry, 'sequence' | 'at' | 'of' | 'previous'>): void {
    const of = this.#of;
    const sequence = this.#head.sequence + 1;
    const value = encodeValue(
      logEntry,
      { sequence, at: this.#at, ...(of !== undefined && { of }), ...entry, previous: this.#own.hash },
      'log entry',
    );
    const lines = this.#own.lines + 1;
    const keyOf = (line: number) => (of === undefined ? keys.logEntry(line) : keys.logEntryOf(of, line));
    this.#operations.push({ kind: 'put', key: keyOf(lines), value });
    this.#lines += 1;
    if (lines > most(of)) this.#operations.push({ kind: 'delete', key: keyOf(lines - most(of)) });
    this.#own = { lines, hash: hashOf(value) };
    this.#head =
      of === undefined ? { sequence, ...this.#own } : { ...this.#head, lines: this.#mainLines, sequence };
  }

  /** Of what admins did, however its lines are numbered. */
  get #mainLines(): number {
    return this.#head.lines ?? this.#head.sequence;
  }

  /** How many were added. */
  get lines(): number {
    return this.#lines;
  }

  get operations(): Operation[] {
    if (this.#operations.length === 0) return [];
    const of = this.#of;
    return [
      ...this.#operations,
      put(keys.logHead, logHead, this.#head),
      ...(of === undefined ? [] : [put(keys.logHeadOf(of), ownLogHead, this.#own)]),
    ];
  }
}
