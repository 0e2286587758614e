// A process that does nothing but write, for tests that kill it: several writers at once, each of which says what it was
// promised as soon as it was. Run as a program: store-writers.ts <directory> [backup].

import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { Backups } from '../../../src/registry/backup.ts';
import { saveBackup } from '../../../src/registry/backup-file.ts';
import { SqliteStore } from '../../../src/registry/sqlite-store.ts';

const WRITERS = 6;
const [directory = '', withBackups] = process.argv.slice(2);
const storePath = join(directory, 'store.db');
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** At once and whole, so that what was said before the kill was heard. */
const say = (promise: object): void => {
  writeSync(1, `${JSON.stringify(promise)}\n`);
};

const store = new SqliteStore({ path: storePath, now: () => performance.now(), keepHistory: 500 });
say({ kind: 'opened', revision: (await store.read([])).revision });

const countUp = async (key: string): Promise<void> => {
  let count = 0;
  const revision = await store.update([{ key }], ({ entries: [entry] }) => {
    count = (entry === undefined ? 0 : Number(decoder.decode(entry.value))) + 1;
    const value = encoder.encode(String(count));
    return {
      compares: [{ kind: 'revision-is', key, revision: entry?.modRevision ?? 0 }],
      operations: [
        { kind: 'put', key, value },
        { kind: 'put', key: `${key}/twin`, value },
      ],
    };
  });
  say({ kind: 'counted', key, count, revision });
};

/** A lease with a key, now and then one that is given up. */
const lend = async (round: number): Promise<void> => {
  const lease = await store.grantLease(3_600_000);
  await store.transact([], [{ kind: 'put', key: `/leased/${lease}`, value: encoder.encode(lease), lease }]);
  say({ kind: 'lent', lease });
  if (round % 2 === 0) return;
  say({ kind: 'ending', lease });
  await store.revokeLease(lease);
  say({ kind: 'ended', lease });
};

const writer = async (name: string): Promise<void> => {
  for (let round = 0; ; round++) {
    await countUp(`/count/${name}`);
    // All writers' common key: they take turns on it.
    if (round % 3 === 0) await countUp('/count/all');
    if (round % 10 === 0) await lend(round / 10);
  }
};

const backUp = async (): Promise<void> => {
  const backups = new Backups(store, storePath);
  const { signal } = new AbortController();
  for (;;) {
    const { revision } = await store.read([]);
    const options = { file: join(directory, 'backup.db'), force: true, onProgress: () => {} };
    await saveBackup(() => backups.make(signal), options);
    say({ kind: 'backed-up', revision });
  }
};

await Promise.all([
  ...Array.from({ length: WRITERS }, (_, i) => writer(`w${i}`)),
  ...(withBackups === undefined ? [] : [backUp()]),
]);
