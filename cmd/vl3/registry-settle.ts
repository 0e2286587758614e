// vl3 registry settle: an admin says that whatever the registry should know of, after a loss of memory, it knows.

import type { Command } from 'commander';
import { adminOption, withAdmin } from './admin.ts';
import type { Context } from './context.ts';
import { type OutputFormat, outputOption, print, printTable } from './output.ts';
import { iso } from './timestamp.ts';

const HELP = `
A registry that was restored, or lost its store, issues no prefix until the nodes it knows have said what they hold;
\`vl3 registry status\` names those it waits for. Settle when those that are missing hold nothing, or never come back:
what such a node holds and the registry does not know is free from then on, and may be leased to another.

Examples:
  vl3 registry settle
  vl3 registry settle -o json`;

export const addSettleCommand = (registry: Command, context: Context): void => {
  registry
    .command('settle')
    .description('end the recovery of a registry that lost its memory: it issues prefixes again')
    .addOption(adminOption(context))
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (options: { admin: string; output: OutputFormat }) => {
      const { recovery, unclaimed } = await withAdmin(options.admin, async (client) => ({
        recovery: (await client.getStatus({})).recovery,
        unclaimed: (await client.settleRegistry({})).unclaimed,
      }));
      const leases = unclaimed.map(({ network, node, prefix, leasedAt }) => ({
        network,
        node,
        prefix,
        leasedAt: iso(leasedAt),
      }));
      await print(context, options.output, { unclaimed: leases }, () => {
        context.out(
          recovery === undefined
            ? 'nothing to settle: the registry is not recovering'
            : 'the registry issues prefixes again',
        );
        if (leases.length === 0) return;
        context.out('leases that their nodes have not confirmed; each ends by itself when its term is over:');
        printTable(
          context,
          ['NETWORK', 'NODE', 'PREFIX', 'LEASED'],
          leases.map(({ network, node, prefix, leasedAt }) => [network, node, prefix, leasedAt]),
        );
      });
    });
};
