// vl3 network: create, look at, change and delete networks.

import type { Command } from 'commander';
import { Vl3Error } from '../../native-free/error.ts';
import type { ExcludedUse } from '../../src/api/generated/vl3/v1/admin_pb.js';
import type { Network } from '../../src/api/generated/vl3/v1/common_pb.js';
import { type AdminOptions, adminOption, withAdmin, withAdminOptions, withAdmission } from './admin.ts';
import { admits } from './admission.ts';
import { collect, parseInteger } from './arguments.ts';
import { registerNetwork, tellSigner } from './ca-client.ts';
import { type CommandGroup, type Context, EXIT } from './context.ts';
import { type OutputFormat, print, printTable } from './output.ts';
import { iso } from './timestamp.ts';

interface NetworkOptions extends AdminOptions {
  poolV4?: string;
  poolV6?: string;
  nodePrefixLengthV4?: number;
  nodePrefixLengthV6?: number;
  /** False: `--no-exclude`. */
  exclude?: string[] | false;
  mtu?: number;
}

const toJson = (network: Network): Record<string, unknown> => ({
  name: network.name,
  uid: network.uid,
  poolV4: network.poolV4,
  poolV6: network.poolV6,
  nodePrefixLengthV4: network.nodePrefixLengthV4,
  nodePrefixLengthV6: network.nodePrefixLengthV6,
  excludedPrefixes: network.excludedPrefixes,
  mtu: network.mtu,
  isRestricted: network.isRestricted,
  createdAt: iso(network.createdAt),
});

const printNetworks = (context: Context, format: OutputFormat, networks: readonly Network[]): Promise<void> =>
  print(context, format, networks.map(toJson), () => printNetworkTable(context, networks));

const printNetworkTable = (context: Context, networks: readonly Network[]): void =>
  printTable(
    context,
    ['NAME', 'POOL V4', 'POOL V6', 'NODE PREFIXES', 'EXCLUDED', 'MTU', 'ADMITS'],
    networks.map((one) => [
      one.name,
      one.poolV4 || '-',
      one.poolV6 || '-',
      [one.poolV4 && `/${one.nodePrefixLengthV4}`, one.poolV6 && `/${one.nodePrefixLengthV6}`]
        .filter(Boolean)
        .join(' '),
      one.excludedPrefixes.join(' ') || '-',
      one.mtu === 0 ? 'auto' : String(one.mtu),
      one.isRestricted ? 'by rules' : 'everyone',
    ]),
  );

const usesToJson = (uses: readonly ExcludedUse[]) =>
  uses.map(({ range, kind, node, held, attachmentId, workload }) => ({
    range,
    kind,
    node,
    held,
    ...(kind === 'attachment' && { attachmentId, workload }),
  }));

/** Asked of the registry one by one. */
const MOST_FOREIGN = 100;

/** The network's rules, and what is on it from other domains, with the rule that admits it now. */
const admittedTo = async (admin: string, network: string) => {
  const { attachments } = await withAdmin(admin, (client) => client.listAttachments({ network, node: '' }));
  return await withAdmission(admin, async ({ client }) => {
    const { rules } = await client.listAdmissionRules({ network });
    const foreign = attachments.filter(({ node }) => node.includes('@')).slice(0, MOST_FOREIGN);
    const shown = [];
    for (const { node: key, workload, addresses, namespace, serviceAccount, labels } of foreign) {
      const [node = '', trustDomain = ''] = key.split('@');
      const asked = { network, trustDomain, node, workload, namespace, serviceAccount, labels };
      const { isAdmitted, rule } = await client.testAdmission(asked);
      shown.push({ workload, node: key, addresses, rule: isAdmitted ? rule : '-' });
    }
    return { rules, foreign: shown };
  });
};

/** What an excluded range holds, and until when. */
const useSentence = ({ range, kind, node, held, attachmentId, workload }: ExcludedUse): string => {
  const inside = `lies in the excluded range ${range}`;
  if (kind === 'gateway')
    return `${held}, the gateway address of node ${node}, ${inside}: it stays until that node leaves the network`;
  if (kind === 'prefix') return `${held}, leased to node ${node}, ${inside}: nothing new is handed out of it`;
  return `${held}, held by ${workload || attachmentId} on node ${node}, ${inside}: it stays until that is detached`;
};

const changes = (options: NetworkOptions) => ({
  ...(options.nodePrefixLengthV4 === undefined ? {} : { nodePrefixLengthV4: options.nodePrefixLengthV4 }),
  ...(options.nodePrefixLengthV6 === undefined ? {} : { nodePrefixLengthV6: options.nodePrefixLengthV6 }),
  ...(options.exclude === undefined ? {} : { excludedPrefixes: options.exclude || [] }),
  ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
});

const withChangeOptions = (command: Command): Command =>
  command
    .option(
      '--node-prefix-length-v4 <bits>',
      'length of the prefixes nodes lease (default: 24, longer for small pools)',
      parseInteger(8, 30),
    )
    .option(
      '--node-prefix-length-v6 <bits>',
      'length of the prefixes nodes lease (default: 112)',
      parseInteger(16, 126),
    )
    .option('--exclude <prefix>', 'never hand out these addresses; may be repeated', collect)
    .option('--mtu <bytes>', "inside MTU; 0: derive it from each node's underlay", parseInteger(0, 65535));

export const networkCommands: CommandGroup = (program: Command, context: Context): void => {
  const network = program.command('network').description('networks: one flat address space each');

  withAdminOptions(withChangeOptions(network.command('create')), context)
    .description('create a network')
    .argument('<name>', 'a DNS label; interfaces are named after it')
    .option('--pool-v4 <prefix>', 'IPv4 addresses, e.g. 10.60.0.0/16')
    .option('--pool-v6 <prefix>', 'IPv6 addresses, e.g. fd00:60::/48')
    .addHelpText(
      'after',
      '\nExamples:\n  vl3 network create red --pool-v4 10.60.0.0/16 --pool-v6 fd00:60::/48\n  vl3 network create green --pool-v4 10.61.0.0/16 --exclude 10.61.0.0/24',
    )
    .action(async (name: string, options: NetworkOptions, command: Command) => {
      if (options.poolV4 === undefined && options.poolV6 === undefined) {
        command.error('error: give the network --pool-v4, --pool-v6 or both');
      }
      const pools = { poolV4: options.poolV4 ?? '', poolV6: options.poolV6 ?? '' };
      // Is it away, then nothing is made that it would not know.
      await tellSigner(options.admin, (signer) => signer.getCa({}));
      const answer = await withAdmin(options.admin, (client) =>
        client.createNetwork({ network: { name, ...pools, ...changes(options) } }),
      );
      await registerNetwork(options.admin, { name, ...pools, uid: answer.network?.uid ?? '' });
      for (const warning of answer.warnings) context.err(`warning: ${warning}`);
      await printNetworks(context, options.output, answer.network === undefined ? [] : [answer.network]);
    });

  withAdminOptions(network.command('list'), context)
    .description('list the networks')
    .addHelpText('after', '\nExamples:\n  vl3 network list\n  vl3 network list -o json')
    .action(async (options: AdminOptions) => {
      const { networks } = await withAdmin(options.admin, (client) => client.listNetworks({}));
      await printNetworks(context, options.output, networks);
    });

  withAdminOptions(network.command('show'), context)
    .description(
      'show a network: by which rules it admits, which node leases which prefix, what of other domains is on it, what is held inside excluded ranges',
    )
    .argument('<name>')
    .addHelpText('after', '\nExamples:\n  vl3 network show red')
    .action(async (name: string, options: AdminOptions) => {
      const answer = await withAdmin(options.admin, (client) => client.getNetwork({ name }));
      const { network: shown } = answer;
      if (shown === undefined) return context.exit(EXIT.failed);
      const leases = answer.leases.map(({ prefix, node, leasedAt }) => ({
        prefix,
        node,
        leasedAt: iso(leasedAt),
      }));
      const excludedUses = usesToJson(answer.excludedUses);
      const { rules, foreign } = await admittedTo(options.admin, name);
      const admission = { rules: rules.map(({ name, trustDomain }) => ({ name, trustDomain })), foreign };
      await print(context, options.output, { ...toJson(shown), ...admission, leases, excludedUses }, () => {
        printNetworkTable(context, [shown]);
        context.out('');
        printTable(
          context,
          ['RULE', 'FROM', 'ADMITS', 'DRY RUN'],
          rules.map((rule) => [rule.name, rule.trustDomain, admits(rule), rule.isDryRun ? 'yes' : '-']),
        );
        context.out('');
        if (foreign.length > 0) {
          printTable(
            context,
            ['OF ANOTHER DOMAIN', 'NODE', 'ADDRESSES', 'ADMITTED BY RULE'],
            foreign.map((one) => [one.workload, one.node, one.addresses.join(' '), one.rule]),
          );
          context.out('');
        }
        printTable(
          context,
          ['PREFIX', 'NODE'],
          leases.map((lease) => [lease.prefix, lease.node]),
        );
        if (answer.excludedUses.length === 0) return;
        context.out('');
        printTable(
          context,
          ['IN EXCLUDED RANGE', 'HELD', 'AS', 'NODE', 'WORKLOAD'],
          answer.excludedUses.map((use) => [use.range, use.held, use.kind, use.node, use.workload || '-']),
        );
      });
    });

  withAdminOptions(withChangeOptions(network.command('update')), context)
    .description('change a network (its pools stay)')
    .argument('<name>')
    .option('--no-exclude', 'hand out every address again')
    .addHelpText(
      'after',
      '\n--exclude replaces the whole list.\n\nExamples:\n  vl3 network update red --mtu 1380\n  vl3 network update red --exclude 10.60.0.0/24 --exclude 10.60.9.0/24',
    )
    .action(async (name: string, options: NetworkOptions) => {
      const answer = await withAdmin(options.admin, async (client) => {
        const { network: current } = await client.getNetwork({ name });
        if (current === undefined) throw new Vl3Error('not-found', `there is no network ${name}`);
        Object.assign(current, changes(options));
        return await client.updateNetwork({ network: current });
      });
      for (const use of answer.excludedUses) context.err(`warning: ${useSentence(use)}`);
      await printNetworks(context, options.output, answer.network === undefined ? [] : [answer.network]);
    });

  network
    .command('delete')
    .description('delete a network; refused while a node is on it')
    .argument('<name>')
    .addOption(adminOption(context))
    .addHelpText('after', '\nExamples:\n  vl3 network delete red')
    .action(async (name: string, options: Pick<AdminOptions, 'admin'>) => {
      await withAdmin(options.admin, (client) => client.deleteNetwork({ name }));
      await tellSigner(options.admin, (signer) => signer.withdrawNetwork({ name }));
    });
};
