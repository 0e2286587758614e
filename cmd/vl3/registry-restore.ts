// vl3 registry restore: the store of a registry, made from a backup while no registry runs on it.

import type { Command } from 'commander';
import type { Context } from './context.ts';
import { type OutputFormat, outputOption, print } from './output.ts';

const HELP = `
The restored store has an identity of its own. When the registry starts on it, it issues no prefix until the nodes it
knows have said what they hold, or an admin says that it is enough. What was changed since the backup is not in it:
nodes deleted since are known again (delete them anew), federations ended since are federations again (revoke them anew), and join
tokens and invitations that were open are void.

Examples:
  vl3 registry restore /backups/vl3.db --state-dir /var/lib/vl3/registry
  vl3 registry restore /backups/vl3.db --state-dir /var/lib/vl3/registry --force`;

export const addRestoreCommand = (registry: Command, context: Context): void => {
  registry
    .command('restore')
    .description('make the store of a stopped registry from a backup')
    .argument('<file>', 'what `vl3 registry backup` wrote')
    .requiredOption('--state-dir <directory>', "the registry's state directory")
    .option('--force', 'replace the store that is there; it is kept under another name', false)
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (file: string, options: { stateDir: string; force: boolean; output: OutputFormat }) => {
      const { restoreStore } = await import('../../src/registry/restore.ts');
      const { stateDir: stateDirectory, force } = options;
      const restored = await restoreStore({ file, stateDirectory, force, now: Date.now() });
      const { identity: storeId, from, revision, networks, nodes, revokedTokens, replaced, hasCa } = restored;
      const { federations } = restored;
      const made = { storeId, from, revision, networks, nodes, revokedTokens, federations, replaced, hasCa };
      await print(context, options.output, made, () => {
        context.out(`restored store ${from} at revision ${revision}: networks ${networks}, nodes ${nodes}`);
        context.out(`it is store ${storeId} from now on; join tokens revoked: ${revokedTokens}`);
        if (federations.length > 0)
          context.out(
            `federated with ${federations.join(', ')}, as the backup has it: revoke what was ended since`,
          );
        if (replaced !== undefined) context.out(`the store that was there is kept as ${replaced}`);
        if (!hasCa) {
          context.out(
            `the CA is not there: put the domain's into ${stateDirectory}/ca before the registry starts, unless it lives by SVIDs of another issuer (--identity)`,
          );
        }
      });
    });
};
