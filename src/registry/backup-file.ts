// A backup as a file: saved as it comes from a registry, or copied from one that is stopped; checked, without history (a
// restored store tells everyone to read anew), 0600, and under its name only once it is whole and on the disk.

import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Vl3Error } from '../../native-free/error.ts';
import { syncDirectory, writeDurably } from '../identity/private-file.ts';
import type { BackupPart } from './backup.ts';
import { inspectStore, type StoreSummary } from './inspect-store.ts';
import { copyDatabase, openDatabase } from './sqlite-schema.ts';

export interface SavedBackup extends StoreSummary {
  readonly file: string;
  readonly bytes: number;
}

export interface SaveOptions {
  readonly file: string;
  /** Replaces a file that is there. */
  readonly force: boolean;
  /** How far it is: bytes of bytes. */
  readonly onProgress: (done: number, total: number) => void;
}

/**
 * `begin` is called once there is a place for what comes. Throws Vl3Error when the file is there and not to be replaced,
 * or what came is not whole.
 */
export const saveBackup = async (
  begin: () => AsyncIterable<BackupPart>,
  options: SaveOptions,
): Promise<SavedBackup> =>
  await saved(options, async (temporary) => {
    const hash = createHash('sha256');
    let total = 0;
    let done = 0;
    let isWhole = false;
    await using file = await open(temporary, 'wx', 0o600);
    for await (const part of begin()) {
      if (part.kind === 'header') total = part.bytes;
      else if (part.kind === 'data') {
        await file.writeFile(part.data);
        hash.update(part.data);
        done += part.data.length;
      } else isWhole = done === total && hash.digest().equals(part.sha256);
      options.onProgress(done, total);
    }
    if (!isWhole) throw new Vl3Error('unavailable', 'the backup did not come whole: make it again');
  });

/** From the store of a registry that is stopped. Throws Vl3Error('failed-precondition') while it runs. */
export const backupStopped = async (storePath: string, options: SaveOptions): Promise<SavedBackup> =>
  await saved(options, async (temporary) => {
    if (!existsSync(storePath)) {
      throw new Vl3Error('not-found', `there is no store at ${storePath}: name the registry's --state-dir`);
    }
    const database = openDatabase(
      storePath,
      'the registry runs: leave --state-dir out, and the backup comes from it',
    );
    try {
      await writeDurably(temporary, new Uint8Array());
      await copyDatabase(database, temporary);
    } finally {
      database.close();
    }
  });

/** Fills a temporary file beside `file`, checks it, makes it small, and gives it its name. */
const saved = async (
  { file, force }: SaveOptions,
  fill: (temporary: string) => Promise<void>,
): Promise<SavedBackup> => {
  const path = resolve(file);
  if (!force && existsSync(path)) {
    throw new Vl3Error('already-exists', `${file} is there: choose another name, or replace it with --force`);
  }
  if (!statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory()) {
    throw new Vl3Error(
      'not-found',
      `there is no directory ${dirname(path)}: make it, or name a file in another one`,
    );
  }
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.new`);
  const clear = async (): Promise<void> => {
    for (const suffix of ['', '-journal', '-wal', '-shm']) await rm(`${temporary}${suffix}`, { force: true });
  };
  try {
    await clear();
    await fill(temporary);
    const summary = inspectStore(temporary, 'the backup');
    withoutHistory(temporary);
    await sync(temporary);
    const { size: bytes } = await stat(temporary);
    await rename(temporary, path);
    await syncDirectory(dirname(path));
    return { ...summary, file: path, bytes };
  } catch (cause) {
    if (cause instanceof Vl3Error) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const isOfFile = cause instanceof Error && 'syscall' in cause;
    const remedy = isOfFile ? ': make room there, or name a file in a directory that can be written to' : '';
    throw new Vl3Error('failed-precondition', `cannot write the backup ${file}: ${reason}${remedy}`, {
      cause,
    });
  } finally {
    await clear().catch(() => undefined);
  }
};

/** One plain file, no larger than what it says. */
export const withoutHistory = (path: string): void => {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    database.exec(`
      PRAGMA journal_mode = DELETE;
      BEGIN IMMEDIATE;
      DELETE FROM history;
      UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'revision') WHERE name = 'compacted';
      COMMIT;
      VACUUM;`);
  } finally {
    database.close();
  }
};

export const sync = async (path: string): Promise<void> => {
  await using file = await open(path, 'r');
  await file.sync();
};
