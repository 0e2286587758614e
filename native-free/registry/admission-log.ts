// The log of what was decided: each entry names the hash of the one before, and the head names the last, so that whoever has
// seen a head can tell whether what came before was changed. It is bounded: the oldest entries go. Signing the head, and
// telling what was kept, is src/registry/admission-service.ts.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { type LogEntry, type LogHead, logEntry, logHead } from './admission-model.ts';
import { keys } from './keys.ts';
import { encodeValue } from './model.ts';
import { put } from './rules.ts';
import type { Operation } from './transaction.ts';

export const MAX_LOG_ENTRIES = 10_000;

export const NO_LOG: LogHead = { sequence: 0, hash: '0'.repeat(64) };

export const hashOf = (entry: Uint8Array): string => bytesToHex(sha256(entry));

/** What is added to the log within one transaction. */
export class LogWriter {
  readonly #at: number;
  #head: LogHead;
  readonly #operations: Operation[] = [];
  #lines = 0;

  constructor(head: LogHead, at: number) {
    this.#head = head;
    this.#at = at;
  }

  /** Answers how many operations it takes to add one, with the head. */
  static readonly OPERATIONS = 3;

  add(entry: Omit<LogEntry, 'sequence' | 'at' | 'previous'>): void {
    const sequence = this.#head.sequence + 1;
    const value = encodeValue(
      logEntry,
      { sequence, at: this.#at, ...entry, previous: this.#head.hash },
      'log entry',
    );
    this.#operations.push({ kind: 'put', key: keys.logEntry(sequence), value });
    this.#lines += 1;
    if (sequence > MAX_LOG_ENTRIES)
      this.#operations.push({ kind: 'delete', key: keys.logEntry(sequence - MAX_LOG_ENTRIES) });
    this.#head = { sequence, hash: hashOf(value) };
  }

  /** How many were added. */
  get lines(): number {
    return this.#lines;
  }

  get operations(): Operation[] {
    return this.#operations.length === 0 ? [] : [...this.#operations, put(keys.logHead, logHead, this.#head)];
  }
}
