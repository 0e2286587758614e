// Backups of a running registry's store: a consistent copy, made by SQLite's online backup while writes go on, then sent
// in pieces. It holds what the store holds, which is no private key and no secret of a token: the CA's directory is
// never part of it, since whoever has its key is the domain. The copy is gone when it has been sent.

import { createHash } from 'node:crypto';
import { type FileHandle, open, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { writeDurably } from '../identity/private-file.ts';

export interface BackupSource {
  readonly identity: string;
  /** Writes a consistent copy over the file; answers the revision that it has at least. */
  backup(path: string): Promise<number>;
}

export type BackupPart =
  | { readonly kind: 'header'; readonly storeId: string; readonly revision: number; readonly bytes: number }
  | { readonly kind: 'data'; readonly data: Uint8Array }
  /** SHA-256 of all data. */
  | { readonly kind: 'checksum'; readonly sha256: Uint8Array };

/** Each holds a copy on the disk, as long as its reader takes. */
const MAX_SENDING = 4;
const PIECE_BYTES = 256 * 1024;
/** What must stay free on the disk, so that a backup never stops the store from writing. */
const RESERVE_BYTES = 64 * 1024 * 1024;

export class Backups {
  readonly #store: BackupSource;
  readonly #storePath: string;
  #isCopying = false;
  #sending = 0;

  constructor(store: BackupSource, storePath: string) {
    this.#store = store;
    this.#storePath = storePath;
  }

  /** Throws Vl3Error: 'resource-exhausted' while others are made, 'failed-precondition' without room for the copy. */
  async *make(signal: AbortSignal): AsyncGenerator<BackupPart> {
    if (this.#isCopying || this.#sending >= MAX_SENDING) {
      throw new Vl3Error('resource-exhausted', 'another backup is being made: try again when it is done');
    }
    const { file, revision } = await this.#copy();
    this.#sending++;
    try {
      yield* this.#send(file, revision, signal);
    } finally {
      this.#sending--;
      await file.close();
    }
  }

  async #copy(): Promise<{ file: FileHandle; revision: number }> {
    this.#isCopying = true;
    const path = join(dirname(this.#storePath), '.store.db.backup');
    try {
      await mustHaveRoom(this.#storePath);
      await clear(path);
      await writeDurably(path, new Uint8Array());
      const revision = await this.#store.backup(path);
      // The copy goes with the descriptor, whatever happens from here on.
      return { file: await open(path, 'r'), revision };
    } finally {
      await clear(path);
      this.#isCopying = false;
    }
  }

  async *#send(file: FileHandle, revision: number, signal: AbortSignal): AsyncGenerator<BackupPart> {
    const { size: bytes } = await file.stat();
    yield { kind: 'header', storeId: this.#store.identity, revision, bytes };
    const hash = createHash('sha256');
    for (let position = 0; position < bytes; ) {
      if (signal.aborted) return;
      const piece = new Uint8Array(Math.min(PIECE_BYTES, bytes - position));
      const { bytesRead } = await file.read(piece, 0, piece.length, position);
      if (bytesRead === 0) throw new Vl3Error('internal', 'the copy of the store ended early');
      const data = piece.subarray(0, bytesRead);
      hash.update(data);
      position += bytesRead;
      yield { kind: 'data', data };
    }
    yield { kind: 'checksum', sha256: new Uint8Array(hash.digest()) };
  }
}

const clear = async (path: string): Promise<void> => {
  for (const suffix of ['', '-journal', '-wal', '-shm']) await rm(`${path}${suffix}`, { force: true });
};

const sizeOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;

const mustHaveRoom = async (storePath: string): Promise<void> => {
  const directory = dirname(storePath);
  const { bavail, bsize } = await statfs(directory);
  const needed = (await sizeOf(storePath)) + (await sizeOf(`${storePath}-wal`)) + RESERVE_BYTES;
  if (bavail * bsize >= needed) return;
  const megabytes = Math.ceil(needed / 1024 / 1024);
  throw new Vl3Error(
    'failed-precondition',
    `a backup needs ${megabytes} MB free in ${directory} for its copy: make room on the registry's machine`,
  );
};
