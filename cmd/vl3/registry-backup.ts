// vl3 registry backup: the store of a running registry, or of one that is stopped, as one checked file.

import { join } from 'node:path';
import type { Command } from 'commander';
import { type AdminOptions, withAdmin, withAdminOptions } from './admin.ts';
import type { Context } from './context.ts';
import { formatBytes, print } from './output.ts';

const HELP = `
The file holds networks, nodes, leases, records and the hashes of join tokens. It holds no private key: keep
<state-dir>/ca and admin.json apart, once, where you keep keys. Without the CA a restored registry does not start,
and whoever has the CA's key is the domain.

Examples:
  vl3 registry backup /backups/vl3.db
  vl3 registry backup --force --admin ./admin.json /backups/vl3.db
  vl3 registry backup --state-dir /var/lib/vl3/registry /backups/vl3.db`;

const SAY_EVERY_MS = 1000;

/** Says on stderr how far it is, at most once a second. */
const sayProgress = (context: Context): ((done: number, total: number) => void) => {
  let saidAt = performance.now();
  return (done, total) => {
    const now = performance.now();
    if (now - saidAt < SAY_EVERY_MS) return;
    saidAt = now;
    context.err(`${formatBytes(done)} of ${formatBytes(total)}`);
  };
};

export const addBackupCommand = (registry: Command, context: Context): void => {
  withAdminOptions(registry.command('backup'), context)
    .description('write a consistent copy of the store to a file (0600), while the registry runs')
    .argument('<file>', 'where to write it')
    .option('--state-dir <directory>', "take it from a stopped registry's state directory instead")
    .option('--force', 'replace the file', false)
    .addHelpText('after', HELP)
    .action(async (file: string, options: AdminOptions & { stateDir?: string; force: boolean }) => {
      const { backupStopped, saveBackup } = await import('../../src/registry/backup-file.ts');
      const save = { file, force: options.force, onProgress: sayProgress(context) };
      const { signal } = context;
      const saved =
        options.stateDir === undefined
          ? await withAdmin(options.admin, async (client) => {
              const { backupParts } = await import('../../src/registry/backup-messages.ts');
              return await saveBackup(() => backupParts(client.backup({}, { signal })), save);
            })
          : await backupStopped(join(options.stateDir, 'store.db'), save);
      const { identity: storeId, revision, networks, nodes, bytes } = saved;
      const made = { file: saved.file, bytes, storeId, revision, networks, nodes };
      await print(context, options.output, made, () => {
        context.out(
          `${file}: ${formatBytes(bytes)}, store ${storeId} at revision ${revision}, networks ${networks}, nodes ${nodes}`,
        );
      });
      context.err("The CA's key is not in it: keep <state-dir>/ca apart.");
    });
};
