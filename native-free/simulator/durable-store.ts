// The registry's store in the simulator: the real key space over a disk that crashes. A transaction is written and synced
// before it is installed, told to watchers and answered.

import { z } from 'zod';
import { fromBase64, toBase64 } from '../base64.ts';
import { Vl3Error } from '../error.ts';
import { KeySpace, type Prepared } from '../registry/key-space.ts';
import type { Rule } from '../registry/rules.ts';
import { DecodedValues, State } from '../registry/state.ts';
import type { Batch, Entry, Range, ReadResult } from '../registry/transaction.ts';
import type { Disk, DiskChange, DiskImage } from './disk.ts';

const REVISION = '#revision';
const IDENTITY = '#identity';
const RESTORED = '#restored';
const KEEP_HISTORY = 500;

const saved = z.strictObject({
  value: z.string(),
  createRevision: z.number(),
  modRevision: z.number(),
  lease: z.string().optional(),
});

export interface DurableStoreOptions {
  /** Of a store that is made now. */
  readonly identity: string;
  /** False only in tests that plant a bug: answers before the disk has it. */
  readonly syncs: boolean;
}

export interface StoreObserver {
  writing(batch: Batch): void;
  /** It is durable and installed. */
  written(batch: Batch): void;
}

export class DurableStore {
  readonly identity: string;
  /** It was made from a backup. */
  readonly isRestored: boolean;
  readonly keys = new KeySpace({ keepHistory: KEEP_HISTORY });
  readonly #syncs: boolean;
  readonly #disk: Disk;
  readonly #observer: StoreObserver;
  readonly #decoded = new DecodedValues();

  constructor(options: DurableStoreOptions, disk: Disk, observer: StoreObserver) {
    this.identity = disk.get(IDENTITY) ?? options.identity;
    this.isRestored = disk.get(RESTORED) !== undefined;
    this.#syncs = options.syncs;
    this.#disk = disk;
    this.#observer = observer;
    const entries: Entry[] = [];
    for (const [key, text] of disk.contents) {
      if (key.startsWith('#')) continue;
      const { value, createRevision, modRevision, lease } = saved.parse(JSON.parse(text));
      entries.push({ key, value: fromBase64(value), createRevision, modRevision, lease });
    }
    if (disk.get(IDENTITY) === undefined) this.#writeAll([[IDENTITY, this.identity]]);
    this.keys.load(entries, Number(disk.get(REVISION) ?? 0));
  }

  read(ranges: readonly Range[]): ReadResult {
    return this.keys.read(ranges);
  }

  /** Carries a rule out. Throws its Vl3Error, or 'unavailable' when the disk cannot take it. */
  run<Answer>(rule: Rule<Answer>): Answer {
    const state = new State(rule.reads, this.read(rule.reads), this.#decoded);
    const { compares, operations, answer } = rule.decide(state);
    if (operations.length === 0) return answer;
    // Nobody else writes between a decision and its transaction here: histories.test.ts is about that.
    if (!compares.every((compare) => this.keys.holds(compare)))
      throw new Vl3Error('internal', 'a rule compared what it did not read');
    this.commit(this.keys.prepare(operations));
    return answer;
  }

  #writeAll(changes: readonly DiskChange[]): void {
    this.#disk.write(changes);
    if (this.#syncs) this.#disk.sync();
  }

  commit(prepared: Prepared | undefined): void {
    if (prepared === undefined) return;
    this.#observer.writing(prepared.batch);
    const changes: DiskChange[] = prepared.entries.map(([key, entry]) => [key, entry && save(entry)]);
    this.#writeAll([...changes, [REVISION, String(prepared.batch.revision)]]);
    this.keys.install(prepared);
    this.#observer.written(prepared.batch);
  }
}

/** What `vl3 registry restore` makes of a backup: a store with an identity of its own. */
export const restoredImage = (backup: DiskImage, identity: string): DiskImage =>
  new Map([...backup, [IDENTITY, identity], [RESTORED, 'yes']]);

const save = ({ value, createRevision, modRevision, lease }: Entry): string =>
  JSON.stringify({ value: toBase64(value), createRevision, modRevision, lease });
