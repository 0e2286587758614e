// vl3 attachment: what is attached where, over all nodes.

import type { Command } from 'commander';
import { LocalClient } from '../../src/agent/local-client.ts';
import { type AdminOptions, withAdmin, withAdminOptions } from './admin.ts';
import type { CommandGroup, Context } from './context.ts';
import { print, printTable } from './output.ts';
import { socketOption } from './socket.ts';
import { iso } from './timestamp.ts';

interface ListOptions extends AdminOptions {
  network?: string;
  node?: string;
  local?: true;
  socket: string;
}

const listLocal = async (context: Context, { socket, network, output }: ListOptions): Promise<void> => {
  const all = await new LocalClient(socket).attachments();
  const attachments = all.filter((one) => network === undefined || one.network === network);
  await print(context, output, attachments, () =>
    printTable(
      context,
      ['ID', 'NETWORK', 'WORKLOAD', 'INTERFACE', 'ADDRESSES', 'PENDING'],
      attachments.map((one) => [
        one.id,
        one.network,
        one.workload,
        one.interfaceName,
        one.addresses.join(' ') || '-',
        one.pending || '-',
      ]),
    ),
  );
};

export const attachmentCommands: CommandGroup = (program: Command, context: Context): void => {
  const attachment = program
    .command('attachment')
    .description("attachments: workloads' interfaces on networks");

  withAdminOptions(attachment.command('list'), context)
    .description('list the attachments of all nodes, or with --local those of this one, also pending ones')
    .option('--network <name>', 'only of this network')
    .option('--node <name>', 'only of this node')
    .option('--local', "ask this node's agent, not the registry")
    .addOption(socketOption(context))
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 attachment list --network red\n  vl3 attachment list -o json\n  vl3 attachment list --local',
    )
    .action(async (options: ListOptions, command: Command) => {
      if (options.local === true) {
        if (options.node !== undefined) command.error('error: --local is of this node: leave --node out');
        return await listLocal(context, options);
      }
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
            one.addresses.join(' ') || '-',
            Object.entries(one.labels)
              .map(([key, value]) => `${key}=${value}`)
              .join(' ') || '-',
          ]),
        ),
      );
    });
};
