// vl3 attachment: what is attached where, over all nodes.

import type { Command } from 'commander';
import { adminOption, withAdmin } from './admin.ts';
import type { CommandGroup, Context } from './context.ts';
import { type OutputFormat, outputOption, printJson, printTable } from './output.ts';

export const attachmentCommands: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('attachment')
    .description("attachments: workloads' interfaces on networks")
    .command('list')
    .description('list the attachments of all nodes')
    .option('--network <name>', 'only of this network', '')
    .option('--node <name>', 'only of this node', '')
    .addOption(adminOption(context))
    .addOption(outputOption())
    .addHelpText('after', '\nExamples:\n  vl3 attachment list --network red\n  vl3 attachment list -o json')
    .action(async (options: { admin: string; output: OutputFormat; network: string; node: string }) => {
      const { attachments } = await withAdmin(options.admin, (client) =>
        client.listAttachments({ network: options.network, node: options.node }),
      );
      if (options.output === 'json') {
        const rows = attachments.map(({ id, network, node, workload, addresses, interfaceName, labels }) => ({
          id,
          network,
          node,
          workload,
          addresses,
          interfaceName,
          labels,
        }));
        return printJson(context, rows);
      }
      printTable(
        context,
        ['NETWORK', 'NODE', 'WORKLOAD', 'ADDRESSES', 'LABELS'],
        attachments.map((one) => [
          one.network,
          one.node,
          one.workload,
          one.addresses.join(' '),
          Object.entries(one.labels)
            .map(([key, value]) => `${key}=${value}`)
            .join(' '),
        ]),
      );
    });
};
