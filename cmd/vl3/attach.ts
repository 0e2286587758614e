// vl3 attach, detach: put an existing network namespace on networks, and take it off.

import type { Command } from 'commander';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { collect, collectLabel } from './arguments.ts';
import { assertedBy, attachAll, parseWait, reportPending, WAIT_SECONDS } from './attaching.ts';
import { type CommandGroup, type Context, EXIT } from './context.ts';
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
        one.pending === '' ? one.addresses.join(' ') || '-' : 'pending',
      ]),
    ),
  );

interface AttachOptions {
  network: string[];
  netns: string;
  name?: string;
  interface?: string;
  address?: string[];
  label?: Record<string, string>;
  namespace?: string;
  serviceAccount?: string;
  wait: number;
  awaitNetwork?: true;
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

/** Several networks at once get what is the same for all of them. */
const checkAttach = ({ network, interface: name, address }: AttachOptions, command: Command): void => {
  if (new Set(network).size !== network.length) command.error('error: a network is named twice');
  if (network.length === 1) return;
  if (name !== undefined) command.error('error: --interface names one: attach to one network at a time');
  if (address !== undefined) command.error('error: --address is of one network: attach to one at a time');
};

export const attachCommands: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('attach')
    .description('attach a network namespace to networks, each on its own')
    .requiredOption('--network <name>', "a network, a partner's as name@domain; may be repeated", collect)
    .requiredOption('--netns <path>', 'the namespace, e.g. /run/netns/web or /proc/1234/ns/net')
    .option('--name <workload>', "the workload's name")
    .option('--interface <name>', 'interface name, at most 15 characters (default: the network, shortened)')
    .option(
      '--address <address>',
      "this address, which must be in a prefix of this node; may be repeated, one of each family (default: any of this node's)",
      collect,
    )
    .option('--label <key=value>', 'a label of the workload; may be repeated', collectLabel)
    .option('--namespace <name>', 'the namespace it is of, for rules of admission')
    .option('--service-account <name>', 'the account it runs by, for rules of admission')
    .option(
      '--wait <duration>',
      `how long to wait for a network that is not available (default: ${WAIT_SECONDS}s)`,
      parseWait,
      WAIT_SECONDS,
    )
    .option('--await-network', 'wait also for a network that does not exist yet')
    .addOption(socketOption(context))
    .addOption(outputOption())
    .addHelpText(
      'after',
      [
        '\nWhat cannot be attached now stays asked for: it is pending, and attached as soon as it can be, until it is detached or',
        'its namespace is gone. Exit codes: 0 all attached, 5 some pending (the reason is on stderr), 1 refused.',
        '\nExamples:\n  ip netns add web\n  vl3 attach --network red --netns /run/netns/web --name web',
        '  vl3 attach --network red --network green --netns /proc/1234/ns/net --label app=web',
        '  vl3 attach --network red --netns /run/netns/db --address 10.60.1.7 --address fd00:60::1:7',
        '  vl3 attach --network red@home.example --netns /run/netns/ledger --name ledger --namespace billing --label app=ledger',
      ].join('\n'),
    )
    .action(async (options: AttachOptions, command: Command) => {
      checkAttach(options, command);
      const { attached, refusal } = await attachAll(
        new LocalClient(options.socket),
        options.network,
        {
          netns: options.netns,
          ...(options.name === undefined ? {} : { workload: options.name }),
          ...(options.interface === undefined ? {} : { interfaceName: options.interface }),
          ...(options.address === undefined ? {} : { addresses: options.address }),
          ...(options.label === undefined ? {} : { labels: options.label }),
          ...assertedBy(options),
          ...(options.awaitNetwork === undefined ? {} : { awaitNetwork: true }),
          // The agent's own default: an agent of an earlier version does not know the field.
          ...(command.getOptionValueSource('wait') === 'default' ? {} : { waitMs: options.wait * 1000 }),
        },
        context.signal,
      );
      if (attached.length > 0) await printAttachments(context, options.output, attached);
      if (reportPending(context, attached) > 0) context.exit(EXIT.pending);
      if (refusal !== undefined) throw refusal;
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
      '\nWhat is pending is not attached any more.\n\nExamples:\n  vl3 detach --network red --netns /run/netns/web\n  vl3 detach --id 3f9a0c1d22',
    )
    .action(async (options: DetachOptions, command: Command) => {
      const client = new LocalClient(options.socket);
      const printDetached = async (detached: readonly LocalAttachment[]): Promise<void> => {
        if (options.output === 'table' && detached.length === 0) context.out('nothing was attached there');
        else await printAttachments(context, options.output, detached);
      };
      if (options.id !== undefined && options.network === undefined && options.netns === undefined) {
        await printDetached(await client.detach({ id: options.id }));
      } else if (options.id === undefined && options.network !== undefined && options.netns !== undefined) {
        await printDetached(await client.detach({ network: options.network, netns: options.netns }));
      } else {
        command.error('error: name the attachment by --id, or by --network and --netns together');
      }
    });
};
