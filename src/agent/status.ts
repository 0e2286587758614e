// What `vl3 status` shows, put together from the parts, and what is wrong in sentences.

import { formatAddress, formatPrefix, type Prefix } from '../../native-free/ipam/prefix.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { VERSION } from '../version.ts';
import { echo, mapLimited } from './echo.ts';
import type { AgentStatus, NetworkStatus, PeerStatus } from './local-messages.ts';
import type { Membership, PeerView } from './membership.ts';
import type { Networks } from './networks.ts';
import type { RegistryLink } from './registry-link.ts';
import type { Surroundings } from './surroundings.ts';

export interface StatusParts {
  readonly node: string;
  readonly datapath: Datapath;
  readonly link: RegistryLink;
  readonly networks: Networks;
  readonly surroundings: Surroundings;
}

const ECHOES_AT_A_TIME = 16;

const formatEndpoint = ({ address, port }: { address: string; port: number }): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

/** A node's gateway address is the first usable one of its first prefix. */
const gatewayOf = (prefix: Prefix): string =>
  formatAddress({ family: prefix.family, value: prefix.value + 1n });

const peerStatus = async (
  { desired, id }: PeerView,
  membership: Membership,
  datapath: Datapath,
  probe: boolean,
): Promise<PeerStatus> => {
  const status = membership.device.status(id);
  const activity = datapath.activity(membership.network, id);
  const [first] = desired.prefixes;
  const hasSession = status?.keypair !== undefined;
  const rttMs =
    probe && hasSession && first !== undefined ? await echo(membership.router, gatewayOf(first)) : null;
  const alive = membership.isAlive(desired.node);
  const problem = !hasSession
    ? status?.endpoint === undefined
      ? 'no way to reach it is known; it has to reach this node first'
      : status.isHandshaking
        ? `does not answer at ${formatEndpoint(status.endpoint)}`
        : ''
    : probe && rttMs === null
      ? 'has a session but does not answer inside the tunnel'
      : '';
  return {
    node: desired.node,
    publicKey: desired.publicKey,
    prefixes: desired.prefixes.map(formatPrefix),
    endpoint: status?.endpoint === undefined ? '' : formatEndpoint(status.endpoint),
    lastHandshakeAt: status?.lastHandshake?.wallclock ?? 0,
    rxBytes: activity?.rxBytes ?? 0,
    txBytes: activity?.txBytes ?? 0,
    rttMs,
    alive,
    problem,
  };
};

const networkStatus = async (
  membership: Membership,
  datapath: Datapath,
  probe: boolean,
): Promise<NetworkStatus> => ({
  name: membership.network,
  state: 'up',
  gateways: membership.gateways.map(formatAddress),
  prefixes: membership.document.leases.map(({ prefix }) => prefix),
  mtu: membership.mtu,
  attachments: membership.attachments().length,
  publicKey: Buffer.from(membership.device.publicKey).toString('base64'),
  peers: await mapLimited(membership.peers, ECHOES_AT_A_TIME, (peer) =>
    peerStatus(peer, membership, datapath, probe),
  ),
  problem: membership.problems.join('; '),
});

const pendingStatus = ([name, problem]: [string, string]): NetworkStatus => ({
  name,
  state: 'pending',
  gateways: [],
  prefixes: [],
  mtu: 0,
  attachments: 0,
  publicKey: '',
  peers: [],
  problem,
});

/** `probe`: sends an echo through each tunnel that has a session. */
export const agentStatus = async (
  parts: StatusParts,
  { probe }: { probe: boolean },
): Promise<AgentStatus> => {
  const { datapath, link, networks, surroundings } = parts;
  const joined = await Promise.all(networks.all.map((one) => networkStatus(one, datapath, probe)));
  const all = [...joined, ...[...networks.pending].map(pendingStatus)];
  const problems: string[] = [];
  if (link.problem !== undefined) problems.push(`the registry does not answer: ${link.problem.message}`);
  if (link.identity.notAfter <= Date.now()) {
    problems.push(
      'the SVID of this node has expired: set the clock right, or start the agent with a new join token (--token)',
    );
  }
  for (const network of all) {
    if (network.problem !== '') problems.push(`network ${network.name}: ${network.problem}`);
    // A node that is not alive is expected to be silent.
    for (const peer of network.peers) {
      if (peer.problem !== '' && peer.alive)
        problems.push(`network ${network.name}, peer ${peer.node}: ${peer.problem}`);
    }
  }
  const { egress, ingress } = datapath.stats();
  const { identity } = link;
  return {
    node: parts.node,
    trustDomain: identity.trustBundle.trustDomain,
    version: VERSION,
    port: datapath.port,
    aead: datapath.aeadTier,
    offloads: Object.entries(datapath.offloads)
      .filter(([, on]) => on)
      .map(([name]) => name),
    registry: {
      connected: link.problem === undefined && link.lastContactAt > 0,
      addresses: [...identity.registries],
      lastContactAt: link.lastContactAt,
      problem: link.problem?.message ?? '',
    },
    svidNotAfter: identity.notAfter,
    behindNat: surroundings.behindNat,
    endpoints: surroundings.endpoints.map(formatEndpoint),
    networks: all,
    drops: { ...egress, ...ingress },
    problems,
  };
};
