// A SQLite database as text that can be read and kept, and back.

import { DatabaseSync } from 'node:sqlite';

/** Statements that make the database at `path` anew: its version, tables and rows. */
export const dumpDatabase = (path: string): string => {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const lines = [
      `PRAGMA user_version = ${String(database.prepare('PRAGMA user_version').get()?.['user_version'])};`,
    ];
    const objects = database.prepare('SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL').all();
    for (const { sql } of objects) lines.push(`${String(sql).replaceAll(/\s+/g, ' ')};`);
    for (const { type, name } of objects) {
      if (type !== 'table') continue;
      for (const row of database.prepare(`SELECT * FROM ${String(name)}`).all())
        lines.push(`INSERT INTO ${String(name)} VALUES (${Object.values(row).map(literal).join(', ')});`);
    }
    return `${lines.join('\n')}\n`;
  } finally {
    database.close();
  }
};

/** Makes a database at `path` out of such statements. */
export const loadDatabase = (path: string, text: string): void => {
  const database = new DatabaseSync(path);
  try {
    database.exec(text);
  } finally {
    database.close();
  }
};

const literal = (value: unknown): string => {
  if (value === null) return 'NULL';
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return `X'${Buffer.from(value).toString('hex')}'`;
  return `'${String(value).replaceAll("'", "''")}'`;
};
