// Looks a store's file over before anybody relies on it: is it SQLite's, is every page whole, is it a store of vl3 and of
// a schema this vl3 knows, and does it hang together. The file may come from anywhere: what it is called says nothing.

import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Vl3Error } from '../../native-free/error.ts';
import { below, keys } from '../../native-free/registry/keys.ts';
import { decodeValue, domain as domainSchema } from '../../native-free/registry/model.ts';
import { prefixEnd } from '../../native-free/registry/transaction.ts';
import { blob, integer, makeTables, SCHEMA_VERSION, schemaVersion, text } from './sqlite-schema.ts';

export interface StoreSummary {
  readonly identity: string;
  readonly revision: number;
  readonly networks: number;
  readonly nodes: number;
  /** Of the domain's CA, SHA-256 in hex; undefined: no registry has ever run on it. */
  readonly caFingerprint: string | undefined;
}

/** `what` names the file in sentences. Throws Vl3Error('failed-precondition') with what is wrong with it. */
export const inspectStore = (path: string, what: string): StoreSummary => {
  const refuse = (why: string, cause?: unknown): Vl3Error =>
    new Vl3Error('failed-precondition', `${what} ${why}`, { cause });
  if (!existsSync(path)) throw new Vl3Error('not-found', `${what} is not there`);
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: 0 });
    // What a stranger put into the schema must not run.
    database.exec('PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;');
    const version = schemaVersion(database);
    if (version > SCHEMA_VERSION) {
      throw refuse(`has schema ${version}, this vl3 knows ${SCHEMA_VERSION}: use the newer vl3`);
    }
    const tables = tablesOf(database);
    if (version === 0 || tables !== expectedTables()) throw refuse('is no store of a vl3 registry');
    const { integrity_check: verdict } = database.prepare('PRAGMA integrity_check(1)').get() ?? {};
    if (verdict !== 'ok') throw refuse(`is damaged (${String(verdict)}): use another one`);
    return summaryOf(database, refuse);
  } catch (cause) {
    if (cause instanceof Vl3Error) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw /not a database/i.test(reason)
      ? refuse('is no store of a vl3 registry', cause)
      : refuse(`is damaged (${reason}): use another one`, cause);
  } finally {
    database?.close();
  }
};

/** Names, kinds and definitions of all there is: nothing may be missing, nothing more may be there. */
const tablesOf = (database: DatabaseSync): string =>
  database
    .prepare('SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name')
    .all()
    .map(({ type, name, tbl_name, sql }) => [type, name, tbl_name, sql].join(' '))
    .join('\n')
    .replace(/\s+/g, ' ');

const expectedTables = (): string => {
  const database = new DatabaseSync(':memory:');
  try {
    makeTables(database);
    return tablesOf(database);
  } finally {
    database.close();
  }
};

const summaryOf = (database: DatabaseSync, refuse: (why: string) => Vl3Error): StoreSummary => {
  const meta = (name: string): unknown =>
    database.prepare('SELECT value FROM meta WHERE name = ?').get(name)?.['value'];
  const count = (prefix: string): number =>
    integer(
      database
        .prepare('SELECT count(*) AS count FROM entries WHERE key >= ? AND key < ?')
        .get(prefix, prefixEnd(prefix))?.['count'],
    );
  const revision = integer(meta('revision'));
  const { newest } = database.prepare('SELECT max(mod_revision) AS newest FROM entries').get() ?? {};
  if (newest !== null && integer(newest) > revision) {
    throw refuse('contradicts itself (an entry is newer than the store): use another one');
  }
  const domain = database.prepare('SELECT value FROM entries WHERE key = ?').get(keys.domain);
  return {
    identity: text(meta('identity')),
    revision,
    networks: count(below.networks),
    nodes: count(below.nodes),
    caFingerprint: domain && decodeValue(domainSchema, blob(domain['value']), keys.domain).caFingerprint,
  };
};
