// vl3 node: the machines of the domain.

import type { Command } from 'commander';
import type { Node, PrefixLease } from '../../src/api/generated/vl3/v1/common_pb.js';
import { type AdminOptions, adminOption, withAdmin, withAdminOptions } from './admin.ts';
import { tellSigner } from './ca-client.ts';
import { type CommandGroup, type Context, EXIT } from './context.ts';
import { formatAge, print, printTable } from './output.ts';
import { iso, milliseconds } from './timestamp.ts';

const toJson = (node: Node): Record<string, unknown> => ({
  name: node.name,
  spiffeId: node.spiffeId,
  enrolledAt: iso(node.enrolledAt),
  svidNotAfter: iso(node.svidNotAfter),
  alive: node.alive,
  lastSeenAt: iso(node.lastSeenAt),
  observedAddress: node.observedAddress,
  agentVersion: node.agentVersion,
  networks: node.networks,
  cluster: node.cluster,
  kubernetesNode: node.kubernetesNode,
});

const leaseRows = (leases: readonly PrefixLease[]) =>
  leases.map(({ network, prefix, leasedAt }) => ({ network, prefix, leasedAt: iso(leasedAt) }));

const printNodes = (context: Context, nodes: readonly Node[]): void => {
  const now = Date.now();
  printTable(
    context,
    ['NAME', 'ALIVE', 'LAST SEEN', 'ADDRESS', 'VERSION', 'NETWORKS'],
    nodes.map((one) => [
      one.name,
      one.alive ? 'yes' : 'no',
      formatAge(milliseconds(one.lastSeenAt), now),
      one.observedAddress || '-',
      one.agentVersion || '-',
      one.networks.join(' ') || '-',
    ]),
  );
};

export const nodeCommands: CommandGroup = (program: Command, context: Context): void => {
  const node = program.command('node').description('nodes: the machines that enrolled');

  withAdminOptions(node.command('list'), context)
    .description('list the nodes')
    .addHelpText('after', '\nExamples:\n  vl3 node list\n  vl3 node list -o json')
    .action(async (options: AdminOptions) => {
      const { nodes } = await withAdmin(options.admin, (client) => client.listNodes({}));
      await print(context, options.output, nodes.map(toJson), () => printNodes(context, nodes));
    });

  withAdminOptions(node.command('show'), context)
    .description('show a node and its prefixes')
    .argument('<name>')
    .addHelpText('after', '\nExamples:\n  vl3 node show edge-1')
    .action(async (name: string, options: AdminOptions) => {
      const answer = await withAdmin(options.admin, (client) => client.getNode({ name }));
      const { node: shown } = answer;
      if (shown === undefined) return context.exit(EXIT.failed);
      const leases = leaseRows(answer.leases);
      await print(context, options.output, { ...toJson(shown), leases }, () => {
        printNodes(context, [shown]);
        context.out('');
        printTable(
          context,
          ['NETWORK', 'PREFIX'],
          leases.map((lease) => [lease.network, lease.prefix]),
        );
      });
    });

  withAdminOptions(node.command('delete'), context)
    .description("end a node's identity and free its prefixes")
    .argument('<name>')
    .addHelpText(
      'after',
      '\nThe node is refused from then on; its peers drop it within seconds.\n\nExamples:\n  vl3 node delete edge-1',
    )
    .action(async (name: string, options: AdminOptions) => {
      await tellSigner(options.admin, (signer) => signer.revokeNode({ name }));
      const { freed } = await withAdmin(options.admin, (client) => client.deleteNode({ name }));
      const leases = leaseRows(freed);
      await print(context, options.output, { freed: leases }, () => {
        for (const lease of leases) context.out(`freed ${lease.prefix} of ${lease.network}`);
      });
    });

  node
    .command('readmit')
    .description('let a deleted node of a Kubernetes cluster enrol again')
    .argument('<name>')
    .addOption(adminOption(context))
    .addHelpText(
      'after',
      '\nDeleted, it does not come back by the word of its cluster alone. A join token admits it anyway.\n"vl3 node delete" takes this back, until it has enrolled.\n\nExamples:\n  vl3 node readmit east-worker-1',
    )
    .action(async (name: string, options: Pick<AdminOptions, 'admin'>) => {
      await withAdmin(options.admin, (client) => client.readmitNode({ name }));
    });
};
