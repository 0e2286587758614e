// SIGKILL after SIGKILL of a process that writes (store-writers.ts), and after each a look at the store: what was promised
// is there, nothing went back, leases and their keys agree.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { z } from 'zod';
import { inspectStore } from '../../../src/registry/inspect-store.ts';
import { restoreStore } from '../../../src/registry/restore.ts';
import { SqliteStore } from '../../../src/registry/sqlite-store.ts';

const promised = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('opened'), revision: z.number() }),
  z.object({ kind: z.literal('counted'), key: z.string(), count: z.number(), revision: z.number() }),
  z.object({ kind: z.literal('lent'), lease: z.string() }),
  z.object({ kind: z.literal('ending'), lease: z.string() }),
  z.object({ kind: z.literal('ended'), lease: z.string() }),
  z.object({ kind: z.literal('backed-up'), revision: z.number() }),
]);

export interface Kills {
  kills: number;
  acknowledged: number;
  /** Committed though nobody was told. */
  unacknowledged: number;
  backups: number;
}

/** What all processes so far have promised. */
class Promises {
  readonly counts = new Map<string, number>();
  readonly lent = new Set<string>();
  /** The kill fell between the end and its promise, or before the end: either is right. */
  readonly ending = new Set<string>();
  readonly ended = new Set<string>();
  revision = 0;
  backedUp: number | undefined;
  acknowledged = 0;

  take(line: string): void {
    const promise = promised.parse(JSON.parse(line));
    if (promise.kind === 'opened') {
      expect(promise.revision).toBeGreaterThanOrEqual(this.revision);
    } else if (promise.kind === 'counted') {
      this.acknowledged++;
      // Nobody is promised a number that another was promised, nor one below it.
      expect(promise.count).toBeGreaterThan(this.counts.get(promise.key) ?? 0);
      this.counts.set(promise.key, promise.count);
      this.revision = Math.max(this.revision, promise.revision);
    } else if (promise.kind === 'lent') this.lent.add(promise.lease);
    else if (promise.kind === 'ending') {
      this.lent.delete(promise.lease);
      this.ending.add(promise.lease);
    } else if (promise.kind === 'ended') {
      this.ending.delete(promise.lease);
      this.ended.add(promise.lease);
    } else this.backedUp = promise.revision;
  }
}

/** Kills `count` times; `seed` decides the moments. */
export const killWriters = async (
  directory: string,
  { kills, seed, backups }: { kills: number; seed: number; backups: boolean },
): Promise<Kills> => {
  const promises = new Promises();
  const result: Kills = { kills: 0, acknowledged: 0, unacknowledged: 0, backups: 0 };
  let random = seed;
  for (let i = 0; i < kills; i++) {
    random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0;
    promises.backedUp = undefined;
    // The first promises come at once; later ones with the log, its checkpoints and backups under way.
    await oneLife(directory, promises, 1 + (random >>> 24) * (i % 4 === 0 ? 8 : 1), backups);
    result.kills++;
    if (promises.backedUp !== undefined) result.backups++;
    result.unacknowledged += await judge(directory, promises);
    if (backups) await judgeBackup(directory, promises);
  }
  result.acknowledged = promises.acknowledged;
  return result;
};

const WRITER = fileURLToPath(new URL('./store-writers.ts', import.meta.url));

/** One process, killed after so many promises. */
const oneLife = async (
  directory: string,
  promises: Promises,
  killAfter: number,
  backups: boolean,
): Promise<void> => {
  const child = spawn(process.execPath, [WRITER, directory, ...(backups ? ['backup'] : [])], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  let heard = 0;
  for await (const line of createInterface(child.stdout)) {
    // What it said while the kill was under way counts too.
    promises.take(line);
    if (++heard === killAfter) child.kill('SIGKILL');
  }
  const [, signal] = await exited;
  expect(signal).toBe('SIGKILL');
};

const decoder = new TextDecoder();

/** Answers how many counts nobody had been promised. */
const judge = async (directory: string, promises: Promises): Promise<number> => {
  const path = join(directory, 'store.db');
  let unpromised = 0;
  await using store = new SqliteStore({ path, now: () => performance.now() });
  const { entries, revision } = await store.read([{ prefix: '/' }]);
  expect(revision).toBeGreaterThanOrEqual(promises.revision);
  promises.revision = revision;
  const byKey = new Map(entries.map((entry) => [entry.key, entry]));
  for (const [key, { value, modRevision }] of byKey) {
    expect(modRevision).toBeLessThanOrEqual(revision);
    if (!key.startsWith('/count/') || key.endsWith('/twin')) continue;
    const twin = byKey.get(`${key}/twin`);
    expect([decoder.decode(twin?.value), twin?.modRevision]).toEqual([decoder.decode(value), modRevision]);
    const count = Number(decoder.decode(value));
    const known = promises.counts.get(key) ?? 0;
    expect(count).toBeGreaterThanOrEqual(known);
    unpromised += count - known;
    promises.counts.set(key, count);
  }
  for (const key of promises.counts.keys()) expect(byKey.has(key)).toBe(true);
  for (const lease of promises.lent) expect(byKey.get(`/leased/${lease}`)?.lease).toBe(lease);
  for (const lease of promises.ended) expect(byKey.has(`/leased/${lease}`)).toBe(false);
  for (const { lease } of entries) if (lease !== undefined) expect(await store.keepAlive(lease)).toBe(true);
  for (const lease of promises.lent) expect(await store.keepAlive(lease)).toBe(true);
  for (const lease of promises.ended) expect(await store.keepAlive(lease)).toBe(false);
  return unpromised;
};

/** A backup under its name is whole, of whatever life, and not older than when it was promised. */
const judgeBackup = async (directory: string, promises: Promises): Promise<void> => {
  const file = join(directory, 'backup.db');
  if (!existsSync(file)) return;
  const { revision } = inspectStore(file, 'the backup');
  if (promises.backedUp !== undefined) expect(revision).toBeGreaterThanOrEqual(promises.backedUp);
  const stateDirectory = join(directory, 'restored');
  await restoreStore({ file, stateDirectory, force: false, now: Date.now() });
  const database = new DatabaseSync(join(stateDirectory, 'store.db'));
  const odd = database
    .prepare(
      `SELECT count(*) AS odd FROM entries AS one JOIN entries AS twin ON twin.key = one.key || '/twin'
       WHERE twin.value <> one.value OR twin.mod_revision <> one.mod_revision`,
    )
    .get();
  database.close();
  expect(odd?.['odd']).toBe(0);
  rmSync(stateDirectory, { recursive: true });
};
