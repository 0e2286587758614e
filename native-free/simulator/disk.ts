// A disk with one small database on it: text by key, changed by transactions. A crash may come at every write. What was
// synced survives it whole; of what was not, some first part does, and the transaction that was being written is torn,
// which a database notices by its checksum and drops. A full disk refuses writes and changes nothing.

import { Vl3Error } from '../error.ts';
import type { CrashSwitch } from './crash.ts';
import type { Random } from './random.ts';

/** A new value, or undefined: the key goes. */
export type DiskChange = readonly [key: string, value: string | undefined];

/** Everything on a disk, as a copy elsewhere. */
export type DiskImage = ReadonlyMap<string, string>;

export class Disk {
  isFull = false;
  /** Transactions written, for the statistics. */
  writes = 0;
  readonly #random: Random;
  readonly #crash: CrashSwitch;
  #durable = new Map<string, string>();
  #unsynced: (readonly DiskChange[])[] = [];
  #seen = new Map<string, string>();

  constructor(random: Random, crash: CrashSwitch) {
    this.#random = random;
    this.#crash = crash;
  }

  get(key: string): string | undefined {
    return this.#seen.get(key);
  }

  /** All that a running process sees. */
  get contents(): DiskImage {
    return this.#seen;
  }

  /** What a crash now would certainly leave. */
  get durable(): DiskImage {
    return this.#durable;
  }

  /** One transaction, not yet safe from a crash. Throws Vl3Error('unavailable') when the disk is full. */
  write(changes: readonly DiskChange[]): void {
    this.#crash.point('write');
    if (this.isFull)
      throw new Vl3Error('unavailable', 'the disk is full: free some space, and it is tried again');
    this.writes++;
    apply(this.#seen, changes);
    this.#unsynced.push(changes);
  }

  /** Everything written is safe once this returns. */
  sync(): void {
    this.#crash.point('sync');
    for (const changes of this.#unsynced) apply(this.#durable, changes);
    this.#unsynced = [];
    this.#crash.point('synced');
  }

  /** The process or the machine died: what was not synced survives in part. */
  crashed(): void {
    const survive = this.#random.between(0, this.#unsynced.length);
    for (const changes of this.#unsynced.slice(0, survive)) apply(this.#durable, changes);
    this.#unsynced = [];
    this.#seen = new Map(this.#durable);
  }

  backup(): DiskImage {
    return new Map(this.#durable);
  }

  /** Puts a backup in the place of everything. */
  restore(image: DiskImage): void {
    this.#durable = new Map(image);
    this.#unsynced = [];
    this.#seen = new Map(image);
  }
}

const apply = (to: Map<string, string>, changes: readonly DiskChange[]): void => {
  for (const [key, value] of changes) {
    if (value === undefined) to.delete(key);
    else to.set(key, value);
  }
};
