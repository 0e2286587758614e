// vl3 status: what the agent on this node has, whom it talks to, and what is wrong, in sentences.

import type { Command } from 'commander';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { AgentStatus, FederationStatus, NetworkStatus } from '../../src/agent/local-messages.ts';
import { budgetSentence, duration } from '../../src/agent/outage-budget.ts';
import { type CommandGroup, type Context, EXIT } from './context.ts';
import { formatAge, formatBytes, type OutputFormat, outputOption, print, printTable } from './output.ts';
import { socketOption } from './socket.ts';

interface View {
  /** Unix ms. */
  readonly now: number;
  /** The registry does not know this node (any more). */
  readonly isRefused: boolean;
}

/** Who decides who is on it. */
const admission = ({ isForeign, isRestricted, home }: NetworkStatus): string => {
  if (isForeign) return `, admitted by the rules of ${home}`;
  return isRestricted ? ', restricted: admitted by rules' : '';
};

const printFederation = (
  context: Context,
  { trustDomain, isRevoked, isBelieved, networks, offered, isConnected, ...one }: FederationStatus,
  now: number,
): void => {
  const contact =
    one.lastContactAt === 0 && networks.length === 0
      ? 'not needed'
      : `${isConnected ? 'connected' : 'not connected'}, last answer ${formatAge(one.lastContactAt, now)}`;
  const state = isRevoked ? 'revoked, being taken down' : isBelieved ? contact : 'its bundle is too old';
  context.out(
    `partner ${trustDomain}: ${state}  networks ${networks.join(' ') || '-'}  offered ${offered.join(' ') || '-'}`,
  );
  if (one.outageBudget !== null) context.out(`  ${budgetSentence(one.outageBudget, now)}`);
};

const printNetwork = (context: Context, network: NetworkStatus, { now, isRefused }: View): void => {
  context.out('');
  context.out(
    `network ${network.name}: ${network.state}${admission(network)}${network.problem === '' ? '' : ` (${network.problem})`}`,
  );
  context.out(
    `  gateway ${network.gateways.join(' ') || '-'}  prefixes ${network.prefixes.join(' ') || '-'}  mtu ${network.mtu}  attachments ${network.attachments}`,
  );
  for (const { prefix, phase, leftMs } of network.leases)
    context.out(
      isRefused
        ? `  lease ${prefix}: not known to be this node's any more`
        : `  lease ${prefix}: ${phase}, ${leftMs > 0 ? `ends in ${duration(leftMs)}` : 'over'} unless renewed`,
    );
  if (network.peers.length === 0) return;
  printTable(
    context,
    ['  PEER', 'ENDPOINT', 'HANDSHAKE', 'RECEIVED', 'SENT', 'RTT', 'PROBLEM'],
    network.peers.map((peer) => [
      `  ${peer.node}${peer.isForeign ? ' (admitted addresses only)' : ''}`,
      peer.endpoint || '-',
      formatAge(peer.lastHandshakeAt, now),
      formatBytes(peer.rxBytes),
      formatBytes(peer.txBytes),
      peer.rttMs === null ? '-' : `${peer.rttMs.toFixed(2)} ms`,
      peer.problem,
    ]),
  );
};

/** With an identity of its own a node's record has to be told anew as often as its SVID is, whatever its leases last. */
const budgetOf = ({ outageBudget, recordsUntil }: AgentStatus, now: number): string => {
  if (recordsUntil === null || recordsUntil - now >= outageBudget.leftMs)
    return budgetSentence(outageBudget, now);
  return `the registry may be gone for another ${duration(Math.max(0, recordsUntil - now))}; then other nodes believe this one no more, whose record lasts as long as its SVID`;
};

const printStatus = (context: Context, status: AgentStatus): void => {
  const now = Date.now();
  context.out(`node ${status.node} of ${status.trustDomain}, vl3 ${status.version}`);
  context.out(
    `udp port ${status.port}  announces ${status.endpoints.join(' ') || 'nothing'}${status.behindNat ? '  behind NAT' : ''}`,
  );
  context.out(
    `handshakes by ${status.primitives}  aead ${status.aead}  offloads ${status.offloads.join(' ') || 'none'}`,
  );
  const { registry } = status;
  const isRefused = registry.refusesThisNode;
  const connection = registry.connected ? 'connected' : 'not connected';
  context.out(
    `registry ${registry.addresses.join(' ')}: ${isRefused ? 'refuses this node' : `${connection}, last answer ${formatAge(registry.lastContactAt, now)}`}`,
  );
  if (status.svidSource !== '') {
    const end = new Date(status.svidNotAfter).toISOString();
    context.out(`identity from ${status.svidSource}, good until ${end}`);
  }
  if (status.kubernetes !== null) {
    const { inSync, pods, asking } = status.kubernetes;
    context.out(
      `kubernetes: ${inSync ? 'in sync' : 'not in sync'}, pods ${pods}, asking for networks ${asking}`,
    );
  }
  if (!isRefused) context.out(budgetOf(status, now));
  for (const federation of status.federations) printFederation(context, federation, now);
  for (const network of status.networks) printNetwork(context, network, { now, isRefused });
  context.out('');
  for (const { at, what } of status.events) context.out(`${formatAge(at, now)}: ${what}`);
  if (status.problems.length === 0) context.out('healthy');
  for (const problem of status.problems) context.out(`problem: ${problem}`);
};

export const statusCommand: CommandGroup = (program: Command, context: Context): void => {
  program
    .command('status')
    .description('show the networks and peers of the agent on this node, and what is wrong')
    .option('--no-probe', 'do not send an echo through each tunnel')
    .addOption(socketOption(context))
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nExit codes: 0 healthy, 4 something is wrong, 3 no agent answers.\n\nExamples:\n  vl3 status\n  vl3 status -o json',
    )
    .action(async (options: { socket: string; output: OutputFormat; probe: boolean }) => {
      const status = await new LocalClient(options.socket).status({ probe: options.probe });
      await print(context, options.output, status, () => printStatus(context, status));
      if (status.problems.length > 0) context.exit(EXIT.unhealthy);
    });
};
