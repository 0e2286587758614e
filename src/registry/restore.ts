// Makes a registry's store from a backup. The new store has an identity of its own, so that every agent reads anew and
// says what it holds, and knows that it was restored (`origin`), so that the registry recovers before it issues anything.
// It is built beside the old one and takes its place in one rename: a crash leaves the old or the new.

import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { link, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pipeline } from 'node:stream/promises';
import { Vl3Error } from '../../native-free/error.ts';
import { federation as federationSchema } from '../../native-free/registry/federation-model.ts';
import { below } from '../../native-free/registry/keys.ts';
import { decodeValue, encodeValue, token as tokenSchema } from '../../native-free/registry/model.ts';
import { prefixEnd } from '../../native-free/registry/transaction.ts';
import { fingerprint } from '../identity/certificate.ts';
import { fromPem } from '../identity/pem.ts';
import { makePrivateDirectory, syncDirectory } from '../identity/private-file.ts';
import { sync, withoutHistory } from './backup-file.ts';
import { inspectStore, type StoreSummary } from './inspect-store.ts';
import { blob, openDatabase, text } from './sqlite-schema.ts';
import type { StoreOrigin } from './store.ts';

export interface RestoreOptions {
  readonly file: string;
  readonly stateDirectory: string;
  /** Replaces a store that is there; it is kept under another name. */
  readonly force: boolean;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface Restored extends StoreSummary {
  /** Of the new store; `from` was the backup's. */
  readonly identity: string;
  readonly from: string;
  /** Join tokens that nobody had used yet: they could have been used since. */
  readonly revokedTokens: number;
  /** Domains that the backup knows as federated: what was ended since is a federation again. */
  readonly federations: readonly string[];
  /** Where the store went that was there. */
  readonly replaced: string | undefined;
  /** Whether the CA is in the state directory, without which the registry does not start. */
  readonly hasCa: boolean;
}

/** Throws Vl3Error with a remedy; then nothing has changed. */
export const restoreStore = async (options: RestoreOptions): Promise<Restored> => {
  const { file, stateDirectory, force, now } = options;
  if (!(await isFile(file))) throw new Vl3Error('not-found', `there is no backup at ${file}`);
  const isMade = !existsSync(stateDirectory);
  await makePrivateDirectory(stateDirectory);
  const storePath = join(stateDirectory, 'store.db');
  if (!force && existsSync(storePath)) {
    throw new Vl3Error(
      'already-exists',
      `there is a store in ${stateDirectory}: choose another --state-dir, or replace it with --force`,
    );
  }
  const building = join(stateDirectory, '.store.db.restoring');
  const clear = async (): Promise<void> => {
    for (const suffix of ['', '-journal', '-wal', '-shm']) await rm(`${building}${suffix}`, { force: true });
  };
  try {
    await clear();
    // Mode and owner are ours, not the backup's.
    await copyPrivately(file, building);
    const summary = inspectStore(building, `the backup ${file}`);
    const hasCa = await mustMatchCa(stateDirectory, summary.caFingerprint);
    const made = makeNew(building, summary, now);
    withoutHistory(building);
    await sync(building);
    const replaced = await takePlace(building, storePath, now);
    await syncDirectory(stateDirectory);
    return { ...summary, ...made, from: summary.identity, replaced, hasCa };
  } catch (cause) {
    await clear();
    if (isMade) await rmdir(stateDirectory).catch(() => undefined);
    if (cause instanceof Vl3Error) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('failed-precondition', `cannot restore into ${stateDirectory}: ${reason}`, { cause });
  } finally {
    await clear();
  }
};

const isFile = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => undefined))?.isFile() ?? false;

const copyPrivately = async (from: string, to: string): Promise<void> =>
  await pipeline(createReadStream(from), createWriteStream(to, { flags: 'wx', mode: 0o600 }));

/** Whether there is a CA. Throws when it is another domain's: a registry with the wrong one would orphan every node. */
const mustMatchCa = async (stateDirectory: string, expected: string | undefined): Promise<boolean> => {
  const path = join(stateDirectory, 'ca/certificate.pem');
  if (!existsSync(path)) return false;
  const [certificate] = fromPem(await readFile(path, 'utf8'), path);
  if (certificate === undefined || expected === undefined) return true;
  if (Buffer.from(fingerprint(certificate)).toString('hex') === expected) return true;
  throw new Vl3Error(
    'failed-precondition',
    `the backup is of another domain than the CA in ${stateDirectory}/ca: use that domain's backup, or the --state-dir with its CA`,
  );
};

/** Gives the copy its own identity and origin, and revokes what must not be used twice. */
const makeNew = (
  path: string,
  { identity: fromIdentity, revision: fromRevision }: StoreSummary,
  now: number,
): Pick<Restored, 'identity' | 'revokedTokens' | 'federations'> => {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    const identity = randomUUID();
    const origin: StoreOrigin = { kind: 'restored', at: now, fromIdentity, fromRevision };
    const revision = fromRevision + 1;
    database.exec('BEGIN IMMEDIATE');
    const setMeta = database.prepare('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)');
    setMeta.run('identity', identity);
    setMeta.run('origin', JSON.stringify(origin));
    setMeta.run('revision', revision);
    const revokedTokens = revokeOpenTokens(database, revision, now);
    const federations = withdrawInvitations(database, revision);
    database.exec('COMMIT');
    return { identity, revokedTokens, federations };
  } finally {
    database.close();
  }
};

/** A token that the backup shows unused may have been used since, and would be good a second time. */
const revokeOpenTokens = (database: DatabaseSync, revision: number, now: number): number => {
  const rows = database
    .prepare('SELECT key, value FROM entries WHERE key >= ? AND key < ?')
    .all(below.tokens, prefixEnd(below.tokens));
  const write = database.prepare('UPDATE entries SET value = ?, mod_revision = ? WHERE key = ?');
  let revoked = 0;
  for (const row of rows) {
    const key = text(row['key']);
    const token = decodeValue(tokenSchema, blob(row['value']), key);
    if (token.usedAt !== undefined || token.revokedAt !== undefined || token.expiresAt <= now) continue;
    write.run(encodeValue(tokenSchema, { ...token, revokedAt: now }, key), revision, key);
    revoked++;
  }
  return revoked;
};

/** As tokens: an invitation that the backup shows open may have been taken, or ended, since. Answers who is federated with. */
const withdrawInvitations = (database: DatabaseSync, revision: number): string[] => {
  const rows = database
    .prepare('SELECT key, value FROM entries WHERE key >= ? AND key < ?')
    .all(below.federations, prefixEnd(below.federations));
  const write = database.prepare('UPDATE entries SET value = ?, mod_revision = ? WHERE key = ?');
  const remove = database.prepare('DELETE FROM entries WHERE key = ?');
  const active: string[] = [];
  for (const row of rows) {
    const key = text(row['key']);
    const { invitation, ...rest } = decodeValue(federationSchema, blob(row['value']), key);
    if (rest.activeSince !== undefined) active.push(rest.trustDomain);
    if (invitation === undefined) continue;
    if (rest.activeSince === undefined) remove.run(key);
    else write.run(encodeValue(federationSchema, rest, key), revision, key);
  }
  return active;
};

/** Puts the new store where the old one is, which is kept under the name that this answers. */
const takePlace = async (building: string, storePath: string, now: number): Promise<string | undefined> => {
  if (!existsSync(storePath)) {
    await moveLogs(storePath, `${storePath}.left-${now}`);
    await rename(building, storePath);
    return undefined;
  }
  const kept = `${storePath}.replaced-${new Date(now).toISOString().replace(/[:.]/g, '')}`;
  const held = holdStopped(storePath);
  try {
    await link(storePath, kept);
    // Of a store that could not be opened. A log beside the new store would be played into it.
    await moveLogs(storePath, kept);
    await rename(building, storePath);
    return kept;
  } finally {
    held?.close();
    // Held means that nothing of it is left to be played: what there is is empty.
    if (held?.isWhole === true) await rm(`${kept}-journal`, { force: true });
  }
};

const moveLogs = async (storePath: string, to: string): Promise<void> => {
  for (const suffix of ['-wal', '-journal']) {
    if (existsSync(`${storePath}${suffix}`)) await rename(`${storePath}${suffix}`, `${to}${suffix}`);
  }
  await rm(`${storePath}-shm`, { force: true });
};

/**
 * Keeps registries off the old store until it is replaced, with its log merged into it. Throws when one runs on it;
 * a store that is damaged cannot be held, nor can a registry start on it.
 */
const holdStopped = (storePath: string): { close: () => void; isWhole: boolean } | undefined => {
  const inUse = 'a registry runs on it: stop it first';
  let database: DatabaseSync;
  try {
    database = openDatabase(storePath, inUse);
  } catch (error) {
    if (error instanceof Vl3Error && error.message.includes(inUse)) throw error;
    return undefined;
  }
  const close = () => database.close();
  try {
    database.exec('PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE;');
    return { close, isWhole: true };
  } catch {
    // Damaged further in: its log is moved with it.
    return { close, isWhole: false };
  }
};
