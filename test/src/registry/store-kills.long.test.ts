import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { killWriters } from './store-kills.ts';

test.each([
  { backups: false, kills: 150 },
  { backups: true, kills: 100 },
])(
  '$kills kills in a write loop (backups: $backups) lose no acknowledged write',
  async ({ backups, kills }) => {
    const directory = mkdtempSync(join(tmpdir(), 'vl3t-kills-'));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
    console.log(`SEED=${seed}`);
    const found = await killWriters(directory, { kills, seed, backups });
    console.log(JSON.stringify(found));
    expect(found.kills).toBe(kills);
    if (backups) expect(found.backups).toBeGreaterThan(0);
  },
  900_000,
);
