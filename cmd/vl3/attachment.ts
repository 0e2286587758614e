// vl3 attachment: what is attached where, over all nodes.

import type { Command } from 'commander';
import { type AdminOptions, withAdmin, withAdminOptions } from './admin.ts';
import type { CommandGroup, Context } from './context.ts';
import { print, printTable } from './output.ts';
import { iso } from './timestamp.ts';

export const attachmentCommands: CommandGroup = (program: Command, context: Context): void => {
  const attachment = program
    .command('attachment')
    .description("attachments: workloads' interfaces on networks");

  withAdminOptions(attachment.command('list'), context)
    .description('list the attachments of all nodes')
    .option('--network <name>', 'only of this network')
    .option('--node <name>', 'only of this node')
    .addHelpText('after', '\nExamples:\n  vl3 attachment list --network red\n  vl3 attachment list -o json')
    .action(async (options: AdminOptions & { network?: string; node?: string }) => {
      const { attachments } = await withAdmin(options.admin, (client) =>
        client.listAttachments({ network: options.network ?? '', node: options.node ?? '' }),
      );
      const all = attachments.map((one) => ({
        id: one.id,
        network: one.network,
        node: one.node,
        workload: one.workload,
        addresses: one.addresses,
        interfaceName: one.interfaceName,
        labels: one.labels,
        attachedAt: iso(one.attachedAt),
      }));
      await print(context, options.output, all, () =>
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
        ),
      );
    });
};
