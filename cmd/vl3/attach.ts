// vl3 attach, detach: put an existing network namespace on a network, and take it off.

import type { Command } from 'commander';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { collectLabel } from './arguments.ts';
import type { CommandGroup, Context } from './context.ts';
import { type OutputFormat, outputOption, print, printTable } from './output.ts';
import { socketOption } from './socket.ts';

const printAttachments = (
  context: Context,
  format: OutputFormat,
  attachments: readonly LocalAttachment[],
): Promise<void> =>
  print(context, format, attachments, () =>
    printTable(
      context,
      ['ID', 'NETWORK', 'WORKLOAD', 'INTERFACE', 'ADDRESSES'],
      attachments.map((one) => [
        one.id,
        one.network,
        one.workload,
        one.interfaceName,
        one.addresses.join(' '),
      ]),
    ),
  );

interface AttachOptions {
  network: string;
  netns: string;
  name?: string;
  interface?: string;
  label?: Record<string, string>;
  socket: string;
  output: OutputFormat;
}

interface DetachOptions {
  network?: string;
  netns?: string;
  id?: string;
  socket: string;
  output: OutputFormat;
}

export const attachCommands: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('attach')
    .description('attach a network namespace to a network')
    .requiredOption('--network <name>', 'the network')
    .requiredOption('--netns <path>', 'the namespace, e.g. /run/netns/web or /proc/1234/ns/net')
    .option('--name <workload>', "the workload's name")
    .option('--interface <name>', 'interface name, at most 15 characters (default: the network, shortened)')
    .option('--label <key=value>', 'a label of the workload; may be repeated', collectLabel)
    .addOption(socketOption(context))
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nExamples:\n  ip netns add web\n  vl3 attach --network red --netns /run/netns/web --name web\n  vl3 attach --network red --netns /proc/1234/ns/net --label app=web',
    )
    .action(async (options: AttachOptions) => {
      const attachment = await new LocalClient(options.socket).attach(
        {
          network: options.network,
          netns: options.netns,
          ...(options.name === undefined ? {} : { workload: options.name }),
          ...(options.interface === undefined ? {} : { interfaceName: options.interface }),
          ...(options.label === undefined ? {} : { labels: options.label }),
        },
        context.signal,
      );
      await printAttachments(context, options.output, [attachment]);
    });

  program
    .command('detach')
    .description('take a network namespace off a network (nothing happens when it is not on it)')
    .option('--network <name>', 'the network')
    .option('--netns <path>', 'the namespace')
    .option('--id <id>', 'the attachment, instead of network and namespace')
    .addOption(socketOption(context))
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 detach --network red --netns /run/netns/web\n  vl3 detach --id 3f9a0c1d22',
    )
    .action(async (options: DetachOptions, command: Command) => {
      const client = new LocalClient(options.socket);
      if (options.id !== undefined && options.network === undefined && options.netns === undefined) {
        await printAttachments(context, options.output, await client.detach({ id: options.id }));
      } else if (options.id === undefined && options.network !== undefined && options.netns !== undefined) {
        await printAttachments(
          context,
          options.output,
          await client.detach({ network: options.network, netns: options.netns }),
        );
      } else {
        command.error('error: name the attachment by --id, or by --network and --netns together');
      }
    });
};
