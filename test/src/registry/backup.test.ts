import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseJoinToken } from '../../../src/identity/token.ts';
import { type BackupPart, Backups } from '../../../src/registry/backup.ts';
import { backupStopped, saveBackup } from '../../../src/registry/backup-file.ts';
import { backupParts } from '../../../src/registry/backup-messages.ts';
import { restoreStore } from '../../../src/registry/restore.ts';
import { startRegistry } from '../../../src/registry/server.ts';
import { SqliteStore } from '../../../src/registry/sqlite-store.ts';
import {
  agentOf,
  recordingLogger,
  red,
  refusal,
  startDomain,
  TRUST_DOMAIN,
  temporaryDirectory,
} from './fixture.ts';

const now = () => performance.now();
const save = (file: string, force = false) => ({ file, force, onProgress: () => {} });
const never = new AbortController().signal;
const put = (key: string, value: string | Uint8Array) => ({
  kind: 'put' as const,
  key,
  value: typeof value === 'string' ? new TextEncoder().encode(value) : value,
});

/** A closed store with some entries, and a backup of it. */
const stored = async (entries = 20) => {
  const directory = temporaryDirectory();
  const storePath = join(directory, 'store.db');
  const store = new SqliteStore({ path: storePath, now });
  for (let i = 0; i < entries; i++) await store.transact([], [put(`/n/${i}`, new Uint8Array(2000).fill(i))]);
  const { identity } = store;
  await store[Symbol.asyncDispose]();
  const file = join(directory, 'backup.db');
  const { revision } = await backupStopped(storePath, save(file));
  return { directory, storePath, file, identity, revision };
};

const read = async (path: string) => {
  await using store = new SqliteStore({ path, now });
  const { entries, revision } = await store.read([{ prefix: '/' }]);
  return { identity: store.identity, origin: store.origin, revision, keys: entries.map(({ key }) => key) };
};

const restore = (file: string, stateDirectory: string, force = false) =>
  restoreStore({ file, stateDirectory, force, now: Date.now() });

describe('a backup', () => {
  test('that is taken while others write holds each transaction wholly, and all that was acknowledged before', async () => {
    const directory = temporaryDirectory();
    const storePath = join(directory, 'store.db');
    await using store = new SqliteStore({ path: storePath, now });
    const filler = new Uint8Array(20_000);
    await Promise.all(
      Array.from({ length: 200 }, (_, i) => store.transact([], [put(`/filler/${i}`, filler)])),
    );
    let acknowledged = 0;
    let isDone = false;
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let i = 1; !isDone; i++) {
        const { revision } = await store.transact(
          [],
          [put(`/pair/${writer}/a`, String(i)), put(`/pair/${writer}/b`, String(i))],
        );
        acknowledged = Math.max(acknowledged, revision);
      }
    });
    const backups = new Backups(store, storePath);
    for (let round = 0; round < 3; round++) {
      const before = acknowledged;
      const file = join(directory, `backup-${round}.db`);
      const saved = await saveBackup(() => backups.make(never), save(file));
      expect(saved.revision).toBeGreaterThanOrEqual(before);
      expect(acknowledged).toBeGreaterThan(before);
      const target = temporaryDirectory();
      await restore(file, target);
      await using copy = new SqliteStore({ path: join(target, 'store.db'), now });
      const { entries } = await copy.read([{ prefix: '/pair/' }]);
      const values = new Map(entries.map(({ key, value }) => [key, new TextDecoder().decode(value)]));
      expect(values.size).toBe(16);
      for (let i = 0; i < 8; i++) expect(values.get(`/pair/${i}/a`)).toBe(values.get(`/pair/${i}/b`));
    }
    isDone = true;
    await Promise.all(writers);
    expect(readdirSync(directory).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('of a running registry comes over the wire, is private, and holds neither the CA key nor a token', async () => {
    const domain = await startDomain();
    const admin = await domain.admin();
    await admin.createNetwork({ network: red });
    const secret = parseJoinToken(await domain.token()).secret;
    const node = await domain.enrol('a');
    await node.client.joinNetwork({ network: 'red' });
    const file = join(temporaryDirectory(), 'vl3.db');
    const saved = await saveBackup(() => backupParts(admin.backup({})), save(file));
    expect(saved).toMatchObject({ networks: 1, nodes: 1, identity: (await admin.getStatus({})).storeId });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const bytes = readFileSync(file);
    const keyLines = readFileSync(join(domain.stateDirectory, 'ca/key.pem'), 'utf8').split('\n').slice(1, 3);
    for (const line of [...keyLines, secret]) {
      expect(line.length).toBeGreaterThan(20);
      expect(bytes.includes(line)).toBe(false);
      expect(bytes.includes(Buffer.from(line, 'base64'))).toBe(false);
    }
    expect(await refusal(saveBackup(() => backupParts(admin.backup({})), save(file)))).toMatch(
      /^already-exists: /,
    );
    await saveBackup(() => backupParts(admin.backup({})), save(file, true));
    expect(readdirSync(join(file, '..'))).toEqual(['vl3.db']);
    expect(await refusal(backupStopped(join(domain.stateDirectory, 'store.db'), save(file, true)))).toMatch(
      /the registry runs: leave --state-dir out/,
    );
  });

  test('has nowhere to go where there is no directory, and says what to do', async () => {
    const { storePath } = await stored(1);
    const directory = join(temporaryDirectory(), 'gone');
    expect(await refusal(backupStopped(storePath, save(join(directory, 'vl3.db'))))).toBe(
      `not-found: there is no directory ${directory}: make it, or name a file in another one`,
    );
    expect(await refusal(backupStopped(storePath, save(join(storePath, 'vl3.db'))))).toMatch(/no directory/);
    expect(await refusal(backupStopped(storePath, save(`${directory}${'x'.repeat(240)}`)))).toMatch(
      /ENAMETOOLONG.*: make room there, or name a file in a directory that can be written to$/,
    );
  });

  test('that did not come whole is no backup', async () => {
    const directory = temporaryDirectory();
    await using store = new SqliteStore({ path: join(directory, 'store.db'), now });
    await store.transact([], [put('/a', new Uint8Array(2_000_000))]);
    const parts: BackupPart[] = [];
    for await (const part of new Backups(store, join(directory, 'store.db')).make(never)) parts.push(part);
    expect(parts.length).toBeGreaterThan(5);
    async function* without(dropped: number) {
      for (const [i, part] of parts.entries()) if (i !== dropped) yield part;
    }
    for (const dropped of [0, 1, parts.length - 2, parts.length - 1]) {
      const file = join(directory, 'partial.db');
      expect(await refusal(saveBackup(() => without(dropped), save(file)))).toMatch(/did not come whole/);
      expect(existsSync(file)).toBe(false);
    }
    async function* broken() {
      yield* parts.slice(0, 3);
      throw new Error('the connection was lost');
    }
    await expect(saveBackup(broken, save(join(directory, 'partial.db')))).rejects.toThrow(/was lost/);
    expect(readdirSync(directory).filter((name) => name.includes('partial'))).toEqual([]);
  });

  test('is copied one at a time, and readers that stall do not use the disk up', async () => {
    const directory = temporaryDirectory();
    await using store = new SqliteStore({ path: join(directory, 'store.db'), now });
    const backups = new Backups(store, join(directory, 'store.db'));
    const [first, second] = [backups.make(never), backups.make(never)];
    const begun = first.next();
    expect(await refusal(second.next())).toMatch(/^resource-exhausted: /);
    await begun;
    const others = Array.from({ length: 3 }, () => backups.make(never));
    for (const other of others) expect((await other.next()).value).toMatchObject({ kind: 'header' });
    expect(await refusal(backups.make(never).next())).toMatch(/^resource-exhausted: /);
    await first.return(undefined);
    const last = backups.make(never);
    expect((await last.next()).value).toMatchObject({ kind: 'header' });
    for (const open of [...others, last]) await open.return(undefined);
  });
});

describe('a restored store', () => {
  test('holds what the backup held, under an identity of its own, and says what it was made from', async () => {
    const { file, identity, revision } = await stored();
    const target = temporaryDirectory();
    const restored = await restore(file, target);
    const found = await read(join(target, 'store.db'));
    expect(found.keys).toHaveLength(20);
    expect(found.identity).toBe(restored.identity);
    expect(found.identity).not.toBe(identity);
    expect(found.origin).toMatchObject({
      kind: 'restored',
      fromIdentity: identity,
      fromRevision: revision,
    });
    expect(found.revision).toBeGreaterThanOrEqual(revision);
    expect(statSync(join(target, 'store.db')).mode & 0o777).toBe(0o600);
    expect(restored).toMatchObject({ from: identity, hasCa: false, replaced: undefined });
  });

  test('serves the nodes it knew, and takes no join token twice', async () => {
    const domain = await startDomain();
    const admin = await domain.admin();
    await admin.createNetwork({ network: red });
    const node = await domain.enrol('a');
    await node.client.joinNetwork({ network: 'red' });
    const open = await domain.token();
    const file = join(temporaryDirectory(), 'vl3.db');
    await saveBackup(() => backupParts(admin.backup({})), save(file));
    await domain.enrol('b', open);
    const { port } = domain.registry;
    await domain.stop();

    const stateDirectory = temporaryDirectory();
    cpSync(join(domain.stateDirectory, 'ca'), join(stateDirectory, 'ca'), { recursive: true });
    expect(await restore(file, stateDirectory)).toMatchObject({ hasCa: true, nodes: 1, revokedTokens: 1 });
    const registry = await startRegistry(
      { stateDirectory, trustDomain: TRUST_DOMAIN, listen: { host: '127.0.0.1', port } },
      { logger: recordingLogger().logger },
    );
    onTestFinished(() => registry[Symbol.asyncDispose]());
    const { storeId } = await agentOf(node.identity).heartbeat({});
    expect(storeId).not.toBe('');
    expect(await refusal(domain.enrol('c', open))).toMatch(/^permission-denied: .*was revoked/);
  });

  test('takes the place of another only when told to, and keeps that one', async () => {
    const old = await stored(3);
    const { file } = await stored(5);
    expect(await refusal(restore(file, old.directory))).toMatch(/^already-exists: .*--force/);
    expect((await read(old.storePath)).keys).toHaveLength(3);
    const { replaced } = await restore(file, old.directory, true);
    expect((await read(old.storePath)).keys).toHaveLength(5);
    expect(await read(replaced ?? '')).toMatchObject({ identity: old.identity });
    expect((await read(replaced ?? '')).keys).toHaveLength(3);
  });

  test('leaves no log of the one that it replaced', async () => {
    const old = await stored(3);
    const { file } = await stored(5);
    const before = readdirSync(old.directory);
    const { replaced = '' } = await restore(file, old.directory, true);
    expect(readdirSync(old.directory).sort()).toEqual([...before, basename(replaced)].sort());
  });

  test('takes the place of a damaged one, whose log is not played into it', async () => {
    const old = await stored(3);
    const { file } = await stored(5);
    writeFileSync(old.storePath, 'junk'.repeat(3000));
    writeFileSync(`${old.storePath}-wal`, 'junk'.repeat(3000));
    await restore(file, old.directory, true);
    expect((await read(old.storePath)).keys).toHaveLength(5);
  });

  test('does not take the place of one that a registry runs on', async () => {
    const old = await stored(3);
    const { file } = await stored(5);
    await using running = new SqliteStore({ path: old.storePath, now });
    expect(await refusal(restore(file, old.directory, true))).toMatch(/a registry runs on it: stop it first/);
    await running.transact([], [put('/later', 'x')]);
    expect((await running.read([{ prefix: '/' }])).entries).toHaveLength(4);
  });
});

const change = (file: string, sql: string): void => {
  const database = new DatabaseSync(file);
  database.exec(sql);
  database.close();
};

test.each([
  [
    'is missing',
    (file: string) => cpSync(file, `${file}.moved`),
    'other.db',
    /^not-found: there is no backup/,
  ],
  [
    'is a text',
    (file: string) => writeFileSync(file, 'hello '.repeat(5000)),
    '',
    /is no store of a vl3 registry/,
  ],
  ['is empty', (file: string) => truncateSync(file, 0), '', /is no store of a vl3 registry/],
  ['was cut off', (file: string) => truncateSync(file, statSync(file).size - 9000), '', /is damaged/],
  [
    'lost a page',
    (file: string) => {
      const bytes = readFileSync(file);
      bytes.fill(0xa5, 4096 * 3, 4096 * 4);
      writeFileSync(file, bytes);
    },
    '',
    /is damaged/,
  ],
  [
    "is another program's database",
    (file: string) => change(file, 'DROP TABLE history; DROP TABLE leases'),
    '',
    /is no store of a vl3 registry/,
  ],
  [
    'brings a trigger along',
    (file: string) => change(file, 'CREATE TRIGGER t AFTER DELETE ON history BEGIN DELETE FROM entries; END'),
    '',
    /is no store of a vl3 registry/,
  ],
  [
    'is of a newer vl3',
    (file: string) => change(file, 'PRAGMA user_version = 7'),
    '',
    /has schema 7.*newer vl3/,
  ],
  [
    'contradicts itself',
    (file: string) => change(file, "UPDATE meta SET value = 3 WHERE name = 'revision'"),
    '',
    /contradicts itself/,
  ],
])('a backup that %s is refused, and nothing changes', async (_, damage, name, sentence) => {
  const old = await stored(3);
  const { file, directory } = await stored(20);
  damage(file);
  const from = name === '' ? file : join(directory, name);
  expect(await refusal(restore(from, old.directory, true))).toMatch(sentence);
  expect((await read(old.storePath)).identity).toBe(old.identity);
  expect(readdirSync(old.directory).sort()).toEqual(['backup.db', 'store.db']);
});

test('what is refused makes no state directory', async () => {
  const directory = temporaryDirectory();
  const file = join(directory, 'text');
  writeFileSync(file, 'no store');
  await expect(restore(file, join(directory, 'state'))).rejects.toThrow(/is no store of a vl3 registry/);
  expect(readdirSync(directory)).toEqual(['text']);
});

test('a backup of one domain is not restored beside the CA of another', async () => {
  const [one, other] = [await startDomain(), await startDomain()];
  const file = join(temporaryDirectory(), 'vl3.db');
  const admin = await one.admin();
  await saveBackup(() => backupParts(admin.backup({})), save(file));
  await other.stop();
  expect(await refusal(restore(file, other.stateDirectory, true))).toMatch(
    /is of another domain than the CA/,
  );
});

test('a restoration killed at any moment leaves the old store or the new one, whole', async () => {
  const old = await stored(30);
  const { file } = await stored(50);
  const module = new URL('../../../src/registry/restore.ts', import.meta.url).pathname;
  const script = `
    import { restoreStore } from '${module}';
    const [file, stateDirectory] = process.argv.slice(1);
    console.log('begin');
    for (;;) await restoreStore({ file, stateDirectory, force: true, now: Date.now() });`;
  let made = 0;
  // Until one was made, too: a busy machine takes longer than any time that were set here.
  for (let i = 0; i < 8 || made === 0; i++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, file, old.directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    await new Promise((resolve) => setTimeout(resolve, 1 + i * 14));
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    const { keys, origin } = await read(old.storePath);
    expect(keys).toHaveLength(origin.kind === 'restored' ? 50 : 30);
    if (origin.kind === 'restored') made++;
  }
  await restore(file, old.directory, true);
  expect((await read(old.storePath)).keys).toHaveLength(50);
});
