import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { expect, onTestFinished, test } from 'vitest';
import { SqliteStore } from '../../../src/registry/sqlite-store.ts';
import { describeStore } from '../../contract/store.ts';

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
  for await (const batch of second.watch('/', 1, AbortSignal.timeout(5000))) {
    expect(batch).toMatchObject({ revision: 2, changes: [{ key: '/b' }] });
    break;
  }
});

test('a lease gets its full term again after the store was down', async () => {
  const path = join(directory(), 'store.db');
  const first = new SqliteStore({ path, now });
  const lease = await first.grantLease(300);
  await first.transact([], [{ kind: 'put', key: '/l', value, lease }]);
  await first[Symbol.asyncDispose]();
  await new Promise((resolve) => setTimeout(resolve, 400));
  await using second = new SqliteStore({ path, now });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect((await second.read([{ key: '/l' }])).entries).toHaveLength(1);
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect((await second.read([{ key: '/l' }])).entries).toHaveLength(0);
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

test('only root can read the file', async () => {
  const path = join(directory(), 'store.db');
  await using store = new SqliteStore({ path, now });
  await store.transact([], [{ kind: 'put', key: '/a', value }]);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(`${path}-wal`).mode & 0o777).toBe(0o600);
});

test('a process killed while it writes loses no acknowledged transaction', async () => {
  const path = join(directory(), 'store.db');
  const script = `
    import { SqliteStore } from '${new URL('../../../src/registry/sqlite-store.ts', import.meta.url).pathname}';
    const store = new SqliteStore({ path: process.argv[1], now: () => performance.now() });
    for (;;) {
      const { revision } = await store.transact([], [
        { kind: 'put', key: '/n/1', value: new Uint8Array(300) }, { kind: 'put', key: '/n/2', value: new Uint8Array(300) }]);
      console.log(revision);
      await new Promise((resolve) => setImmediate(resolve));
    }`;
  let acknowledged = 0;
  for (let round = 0; round < 3; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const target = acknowledged + 50;
    for await (const line of createInterface(child.stdout)) {
      acknowledged = Number(line);
      if (acknowledged >= target) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    await using store = new SqliteStore({ path, now });
    const { entries, revision } = await store.read([{ prefix: '/n/' }]);
    expect(revision).toBeGreaterThanOrEqual(acknowledged);
    expect(entries.map(({ modRevision }) => modRevision)).toEqual([revision, revision]);
    acknowledged = revision;
  }
});

test.skipIf(process.getuid?.() !== 0)(
  'a full disk refuses writes with a sentence, loses nothing, and heals when there is room',
  async () => {
    const script = `
      import { rmSync, writeFileSync } from 'node:fs';
      import { SqliteStore } from '${new URL('../../../src/registry/sqlite-store.ts', import.meta.url).pathname}';
      const [directory] = process.argv.slice(1);
      writeFileSync(directory + '/filler', Buffer.alloc(1_000_000));
      const store = new SqliteStore({ path: directory + '/store.db', now: () => performance.now() });
      const put = (i) => store.transact([], [{ kind: 'put', key: '/n/' + i, value: new Uint8Array(20_000) }]);
      const report = { refused: undefined, acknowledged: 0, held: 0, after: false };
      for (; report.refused === undefined; ) {
        try { await put(report.acknowledged); report.acknowledged++; }
        catch (error) { report.refused = error.code + ': ' + error.message; }
      }
      report.held = (await store.read([{ prefix: '/n/' }])).entries.length;
      rmSync(directory + '/filler');
      report.after = (await put('later')).succeeded;
      console.log(JSON.stringify(report));
      await store[Symbol.asyncDispose]();`;
    const path = directory();
    // A small file system of its own, gone with the process.
    const command = 'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$2" --input-type=module -e "$3" "$1"';
    const child = spawn('unshare', ['-m', 'sh', '-c', command, 'sh', path, process.execPath, script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const chunk of child.stdout) output += String(chunk);
    const report: unknown = JSON.parse(output);
    expect(report).toMatchObject({
      refused: expect.stringMatching(/^unavailable: the store cannot write .*full/),
    });
    expect(report).toMatchObject({ after: true });
    const { acknowledged, held } = Object(report);
    expect(held).toBe(acknowledged);
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
