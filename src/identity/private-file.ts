// Files that hold secrets: read only when nobody else can have read or written them, replaced in one step so that a
// crash leaves the old file or the new one. Not here: what is in them.

import { constants, type Stats } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { makeDirectory } from '../make-directory.ts';

/** Larger ones are refused, unless a reader says otherwise. */
const MAX_BYTES = 256 * 1024;

/** Makes the directory (0700) where it is missing; one that others may write to is refused. */
export const makePrivateDirectory = async (path: string): Promise<void> => {
  let mode: number;
  try {
    makeDirectory(path, 0o700);
    ({ mode } = await stat(path));
  } catch (cause) {
    throw new Vl3Error('failed-precondition', `cannot make the directory ${path}: ${reason(cause)}`, {
      cause,
    });
  }
  if ((mode & 0o022) !== 0) {
    throw new Vl3Error(
      'failed-precondition',
      `other users may write to the directory ${path}: run chmod 700 ${path}, or choose a directory of its own`,
    );
  }
};

export interface ReadOptions {
  /** Default false: what is no secret, but must not be changed by others. */
  readonly mayOthersRead?: boolean;
  /** Default false. As volumes of Kubernetes have them; whose the file is counts, and not whose the link. */
  readonly mayBeLink?: boolean;
  /** Default false. By a group that this process is in, unless it is root: as fsGroup of Kubernetes gives it to who is not root. */
  readonly mayGroupRead?: boolean;
  /** Default 256 KiB. */
  readonly maxBytes?: number;
}

/**
 * The file's bytes, or undefined when there is none. `what` names it in errors. Throws
 * Vl3Error('failed-precondition') for a link, a file of another user, or one that others may read or write.
 */
export const readPrivateFile = async (
  path: string,
  what: string,
  options: ReadOptions = {},
): Promise<Uint8Array | undefined> => {
  const file = await openExisting(path, what, options);
  if (file === undefined) return undefined;
  try {
    const stats = await file.stat();
    mustBePrivate(stats, path, what, options);
    const { maxBytes = MAX_BYTES } = options;
    const bytes = new Uint8Array(maxBytes + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
      length += bytesRead;
      if (bytesRead === 0 || length === bytes.length) break;
    }
    if (length > maxBytes) {
      throw new Vl3Error(
        'failed-precondition',
        `${what} ${path} is larger than ${maxBytes} bytes: is it one?`,
      );
    }
    return bytes.slice(0, length);
  } catch (cause) {
    if (cause instanceof Vl3Error) throw cause;
    throw new Vl3Error('failed-precondition', `cannot read ${what} ${path}: ${reason(cause)}`, { cause });
  } finally {
    await file.close();
  }
};

/** Replaces the file in one step; it is 0600 and on the disk when this returns. Borrows `bytes`. */
export const writePrivateFile = async (path: string, bytes: Uint8Array, what: string): Promise<void> => {
  // Always the same name, so that what a crash left is cleared by the next write.
  const temporary = join(dirname(path), `.${basename(path)}.new`);
  try {
    await rm(temporary, { force: true });
    await writeDurably(temporary, bytes);
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new Vl3Error('failed-precondition', `cannot write ${what} ${path}: ${reason(cause)}`, { cause });
  }
};

/** Creates a file (0600) that must not exist, and syncs it. */
export const writeDurably = async (path: string, bytes: Uint8Array): Promise<void> => {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
};

/** Makes renames inside the directory durable. */
export const syncDirectory = async (path: string): Promise<void> => {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
};

const openExisting = async (path: string, what: string, { mayBeLink = false }: ReadOptions) => {
  try {
    // O_NONBLOCK: a FIFO put in its place must not hang us.
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | (mayBeLink ? 0 : constants.O_NOFOLLOW);
    return await open(path, flags);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === 'ENOENT') return undefined;
    const why =
      code === 'ELOOP'
        ? 'it is a symbolic link: put the file itself there'
        : code === 'EACCES'
          ? 'permission denied: run as the user that owns it (usually root)'
          : reason(cause);
    throw new Vl3Error(
      code === 'EACCES' ? 'permission-denied' : 'failed-precondition',
      `cannot read ${what} ${path}: ${why}`,
      { cause },
    );
  }
};

const mustBePrivate = (
  stats: Stats,
  path: string,
  what: string,
  { mayOthersRead = false, mayGroupRead = false }: ReadOptions,
): void => {
  if (!stats.isFile()) throw new Vl3Error('failed-precondition', `${what} ${path} is not a regular file`);
  const mode = stats.mode & 0o777;
  if (mayOthersRead && (mode & 0o022) !== 0) {
    throw new Vl3Error(
      'failed-precondition',
      `other users may write to ${what} ${path}: run chmod go-w ${path}, and see whether it is what it should be`,
    );
  }
  const closed = mayGroupRead && isOurGroup(stats.gid) ? 0o037 : 0o077;
  if (!mayOthersRead && (mode & closed) !== 0) {
    throw new Vl3Error(
      'failed-precondition',
      `${what} ${path} is open to other users (mode ${mode.toString(8).padStart(4, '0')}): run chmod 600 ${path}, and replace its key if others may have read it`,
    );
  }
  const user = process.geteuid?.();
  if (user !== undefined && stats.uid !== user && stats.uid !== 0) {
    throw new Vl3Error(
      'failed-precondition',
      `${what} ${path} belongs to another user (uid ${stats.uid}): run chown ${user} ${path}, and replace its key if that user may not have it`,
    );
  }
};

/** Root is in no group that it needs, and others are in its own. */
const isOurGroup = (group: number): boolean =>
  process.geteuid?.() !== 0 && [process.getegid?.(), ...(process.getgroups?.() ?? [])].includes(group);

export const errorCode = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));
