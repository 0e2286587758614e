import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, onTestFinished, test } from 'vitest';
import { SqliteStore } from '../../../src/registry/sqlite-store.ts';
import { describeStore } from '../../contract/store.ts';
import { killWriters } from './store-kills.ts';

const directory = () => {
  const path = mkdtempSync(join(tmpdir(), 'vl3t-store-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
};
const now = () => performance.now();
const value = new TextEncoder().encode('x');

describeStore('the SQLite store', {
  create: async (options) => new SqliteStore({ path: join(directory(), 'store.db'), now, ...options }),
  leaseTtlMs: 90,
});

test('what a decision reads below a prefix is what is stored, whatever was written, refused or expired before', async () => {
  await using store = new SqliteStore({ path: join(directory(), 'store.db'), now });
  const seen = async (): Promise<string[]> => {
    let found: string[] = [];
    await store.update([{ prefix: '/a/' }], ({ entries }) => {
      found = entries.map(({ key, modRevision, value: [first] }) => `${key} ${modRevision} ${first}`);
      return { compares: [], operations: [] };
    });
    return found;
  };
  const stored = async (): Promise<string[]> => {
    const { entries } = await store.read([{ prefix: '/a/' }]);
    return entries.map(({ key, modRevision, value: [first] }) => `${key} ${modRevision} ${first}`);
  };
  const steps = [
    () => store.transact([], [{ kind: 'put', key: '/a/2', value }]),
    () => store.transact([], [{ kind: 'put', key: '/a/1', value: new Uint8Array([7]) }]),
    async () => {
      const lease = await store.grantLease(60_000);
      await store.transact([], [{ kind: 'put', key: '/a/3', value, lease }]);
      await store.revokeLease(lease);
    },
    // The second is refused, and what went before it in the same transaction stays.
    () =>
      Promise.allSettled([
        store.transact([], [{ kind: 'put', key: '/a/4', value }]),
        store.update([{ prefix: '/a/' }], () => ({
          compares: [],
          operations: [{ kind: 'put', key: '/a/5', value, lease: 'none' }],
        })),
      ]),
    () => store.transact([], [{ kind: 'delete', key: '/a/1' }]),
    () => store.transact([], [{ kind: 'delete-prefix', prefix: '/a/' }]),
    () => store.transact([], [{ kind: 'put', key: '/a/6', value }]),
  ];
  for (const step of steps) {
    await step();
    expect(await seen()).toEqual(await stored());
  }
  expect(await seen()).toHaveLength(1);
});

test('identity, entries, revision and history survive a reopening', async () => {
  const path = join(directory(), 'store.db');
  const first = new SqliteStore({ path, now });
  await first.transact([], [{ kind: 'put', key: '/a', value }]);
  await first.transact([], [{ kind: 'put', key: '/b', value }]);
  await first[Symbol.asyncDispose]();
  await using second = new SqliteStore({ path, now });
  expect(second.identity).toBe(first.identity);
  const { entries, revision } = await second.read([{ prefix: '/' }]);
  expect(entries.map(({ key, modRevision }) => [key, modRevision])).toEqual([
    ['/a', 1],
    ['/b', 2],
  ]);
  expect(revision).toBe(2);
  for await (const batch of second.watch('/', 1, AbortSignal.timeout(30_000))) {
    expect(batch).toMatchObject({ revision: 2, changes: [{ key: '/b' }] });
    break;
  }
});

test('a lease gets its full term again after the store was down', async () => {
  const path = join(directory(), 'store.db');
  let time = 1000;
  const first = new SqliteStore({ path, now: () => time });
  const lease = await first.grantLease(300);
  await first.transact([], [{ kind: 'put', key: '/l', value, lease }]);
  await first[Symbol.asyncDispose]();
  // The store's time is its own process's: it means nothing to the next one.
  time = 1_000_000;
  await using second = new SqliteStore({ path, now: () => time });
  time += 250;
  expect(await second.keepAlive(lease)).toBe(true);
  expect((await second.read([{ key: '/l' }])).entries).toHaveLength(1);
  time += 301;
  for await (const batch of second.watch('/', 1, AbortSignal.timeout(30_000))) {
    expect(batch.changes).toMatchObject([{ key: '/l', value: undefined }]);
    break;
  }
});

test('a second process on the same file is refused with a remedy', async () => {
  const path = join(directory(), 'store.db');
  await using _first = new SqliteStore({ path, now });
  expect(() => new SqliteStore({ path, now })).toThrow(/another registry has it open/);
});

test('a store of a newer schema is refused, not damaged', () => {
  const path = join(directory(), 'store.db');
  const database = new DatabaseSync(path);
  database.exec('PRAGMA user_version = 99');
  database.close();
  expect(() => new SqliteStore({ path, now })).toThrow(/schema 99/);
});

test('a file that is no database is refused with a sentence', async () => {
  const path = join(directory(), 'store.db');
  const { writeFileSync } = await import('node:fs');
  writeFileSync(path, 'not a database, but long enough to be taken for one '.repeat(50));
  expect(() => new SqliteStore({ path, now })).toThrow(/cannot open the store/);
});

test('a store that is damaged where entries lie says so when they are read', async () => {
  const path = join(directory(), 'store.db');
  const first = new SqliteStore({ path, now });
  for (let i = 0; i < 200; i++)
    await first.transact([], [{ kind: 'put', key: `/nodes/${i}`, value: new Uint8Array(200) }]);
  await first[Symbol.asyncDispose]();
  const bytes = readFileSync(path);
  // Every page but those of the schema and of what is read at the start.
  for (let at = 5 * 4096; at < bytes.length; at += 4096) bytes.fill(0xff, at, at + 100);
  writeFileSync(path, bytes);
  const opened = (): SqliteStore | string => {
    try {
      return new SqliteStore({ path, now });
    } catch (error) {
      return String(error);
    }
  };
  const store = opened();
  if (typeof store === 'string') expect(store).toMatch(/Vl3Error: .*restore it from a backup/);
  else {
    await expect(store.read([{ prefix: '/' }])).rejects.toThrow(/restore it from a backup/);
    await store[Symbol.asyncDispose]();
  }
});

test('only root can read the file', async () => {
  const path = join(directory(), 'store.db');
  await using store = new SqliteStore({ path, now });
  await store.transact([], [{ kind: 'put', key: '/a', value }]);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(`${path}-wal`).mode & 0o777).toBe(0o600);
});

test('a process killed while it writes loses no acknowledged transaction', async () => {
  const { acknowledged } = await killWriters(directory(), { kills: 10, seed: 1, backups: false });
  expect(acknowledged).toBeGreaterThan(500);
});

test('nor one that makes backups meanwhile, and each backup is whole', async () => {
  const { acknowledged } = await killWriters(directory(), { kills: 5, seed: 2, backups: true });
  expect(acknowledged).toBeGreaterThan(200);
});

test.skipIf(process.getuid?.() !== 0)(
  'a full disk refuses writes with a sentence, loses nothing, and heals when there is room',
  async () => {
    const script = `
      import { rmSync, writeFileSync } from 'node:fs';
      import { SqliteStore } from '${new URL('../../../src/registry/sqlite-store.ts', import.meta.url).pathname}';
      const [directory] = process.argv.slice(1);
      writeFileSync(directory + '/filler', Buffer.alloc(1_000_000));
      const open = () => new SqliteStore({ path: directory + '/store.db', now: () => performance.now() });
      const store = open();
      const put = (key, bytes = 20_000) =>
        store.update([], () => ({ compares: [], operations: [{ kind: 'put', key, value: new Uint8Array(bytes) }] }));
      const report = { refusals: [], acknowledged: 0, held: 0, revision: 0, after: false, reopened: 0 };
      // Several at once, so that they are committed together and fail together.
      for (let round = 0; report.refusals.length === 0; round++) {
        const keys = Array.from({ length: 6 }, (_, i) => '/n/' + round + '/' + i);
        for (const { status, reason } of await Promise.allSettled(keys.map((key) => put(key)))) {
          if (status === 'fulfilled') report.acknowledged++;
          else report.refusals.push(reason.code + ': ' + reason.message);
        }
      }
      const found = await store.read([{ prefix: '/n/' }]);
      report.held = found.entries.length;
      report.revision = found.revision;
      rmSync(directory + '/filler');
      report.after = (await put('/later')) > found.revision;
      await store[Symbol.asyncDispose]();
      const again = open();
      report.reopened = (await again.read([{ prefix: '/n/' }])).entries.length;
      await again[Symbol.asyncDispose]();
      console.log(JSON.stringify(report));`;
    const path = directory();
    // A small file system of its own, gone with the process.
    const command = 'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$2" --input-type=module -e "$3" "$1"';
    const child = spawn('unshare', ['-m', 'sh', '-c', command, 'sh', path, process.execPath, script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const chunk of child.stdout) output += String(chunk);
    const { refusals, acknowledged, held, reopened, revision, after } = Object(JSON.parse(output));
    expect(refusals.length).toBeGreaterThan(0);
    for (const refusal of refusals) expect(refusal).toMatch(/^unavailable: the store cannot write .*full/);
    expect(after).toBe(true);
    expect([held, reopened]).toEqual([acknowledged, acknowledged]);
    // What failed has used its revisions up: none is ever seen twice.
    expect(revision).toBeGreaterThanOrEqual(acknowledged);
    expect(held).toBeGreaterThan(10);
  },
);

test.each([
  ['is no database', (path: string) => writeFileSync(path, 'junk'.repeat(1000))],
  ['lost a page', (path: string) => overwrite(path, 4096, randomBytes(3000))],
])('a store that %s is refused with a remedy', async (_, damage) => {
  const path = join(directory(), 'store.db');
  const store = new SqliteStore({ path, now });
  await store.transact([], [{ kind: 'put', key: '/a', value }]);
  await store[Symbol.asyncDispose]();
  damage(path);
  expect(() => new SqliteStore({ path, now })).toThrow(
    expect.objectContaining({
      code: 'failed-precondition',
      message: expect.stringMatching(/^cannot open the store .*store\.db: /),
    }),
  );
});

const overwrite = (path: string, offset: number, bytes: Uint8Array): void => {
  const file = openSync(path, 'r+');
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
};
