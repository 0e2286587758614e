// What an agent tells of itself: metrics, whether its loops run (health), and whether it carries what it is there for
// (readiness). A registry that is gone makes it neither: traffic goes on without, and nothing would be mended by
// starting the agent again or by sending its pods elsewhere. Names and labels are in the README.

import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { NETWORK } from '../../native-free/reconcile/documents.ts';
import type { ObservedAgent } from '../agent/agent.ts';
import type { AgentStatus } from '../agent/local-messages.ts';
import type { Membership } from '../agent/membership.ts';
import { agentStatus } from '../agent/status.ts';
import { monotonicNow } from '../ffi/clock.ts';
import type { InformerStatus } from '../kube/informer.ts';
import { RESOURCES } from '../kube/kubernetes-api.ts';
import { agentHealth } from './agent-health.ts';
import { AgentReadiness } from './agent-readiness.ts';
import { EventLoop } from './event-loop.ts';
import { Instruments, type Sample } from './instruments.ts';
import type { Observed } from './listener.ts';
import { addPartners } from './partner-metrics.ts';
import { Totals } from './totals.ts';

export interface AgentMetricsOptions {
  /** A handshake age for each peer: as many series as there are peers. */
  readonly eachPeer: boolean;
}

const HANDSHAKE_AGES = [30, 60, 120, 180, 300, 600, 1800, 3600, 86_400];

export const observeAgent = (agent: ObservedAgent, options: AgentMetricsOptions): Observed => {
  const eventLoop = new EventLoop();
  const instruments = new Instruments(eventLoop);
  addTraffic(instruments, agent);
  addPeers(instruments, agent, options);
  addControl(instruments, agent);
  addAddresses(instruments, agent);
  addPartners(instruments, agent);
  addKubernetes(instruments, agent);
  const readiness = readinessOf(agent);
  return {
    metrics: () => instruments.text(),
    health: () => healthOf(agent),
    readiness: () => readiness.problems(),
    [Symbol.dispose]: () => eventLoop[Symbol.dispose](),
  };
};

const healthOf = ({ tickedAt, datapath, networks }: ObservedAgent): Promise<string[]> =>
  agentHealth({
    now: monotonicNow,
    tickedAt,
    tell: () => {
      const [one] = networks.all;
      one?.tunnel.setMtu(one.mtu);
      return one !== undefined;
    },
    settled: () => datapath.settled(),
  });

const readinessOf = (agent: ObservedAgent): AgentReadiness => {
  const { state, networks, datapath, informer, link } = agent;
  return new AgentReadiness({
    port: () => datapath.port,
    saved: () => state.list(NETWORK).map(({ name }) => name),
    pending: (name) => networks.pending.get(name),
    open: (name) => networks.get(name),
    isRegistryAway: () => link.problem !== undefined,
    // Once: an API server that goes away later changes nothing for the pods.
    unseen: () => (informer?.hasSeen === false ? informer.status.problems : []),
    health: () => healthOf(agent),
    now: monotonicNow,
  });
};

const addTraffic = (instruments: Instruments, { datapath, devices, networks }: ObservedAgent): void => {
  const both = (name: 'packets' | 'super-packets'): Sample[] => {
    const { egress, ingress } = datapath.stats();
    return [
      [{ direction: 'out' }, egress[name]],
      [{ direction: 'in' }, ingress[name]],
    ];
  };
  instruments.counter(
    'vl3_agent_packets_total',
    'Inner packets sealed (out) and opened (in).',
    ['direction'],
    () => both('packets'),
  );
  instruments.counter(
    'vl3_agent_super_packets_total',
    'Reads from (out) and writes to (in) TUNs that carried several packets at once.',
    ['direction'],
    () => both('super-packets'),
  );
  const totals = new Totals();
  instruments.counter(
    'vl3_agent_bytes_total',
    'Bytes of WireGuard messages sent to and received from peers, by network.',
    ['network', 'direction'],
    () => {
      for (const { network, peers, tunnel } of networks.all) {
        const activities = peers.all.map(({ id }) => [id, tunnel.activity(id)] as const);
        const sum = (direction: string, field: 'txBytes' | 'rxBytes'): void =>
          totals.take(
            { network, direction },
            new Map(activities.map(([id, one]) => [id, one?.[field] ?? 0])),
          );
        sum('out', 'txBytes');
        sum('in', 'rxBytes');
      }
      return totals.samples;
    },
  );
  instruments.counter(
    'vl3_agent_dropped_packets_total',
    'Packets and messages that the packet threads dropped, by reason.',
    ['direction', 'reason'],
    () => {
      const { egress, ingress } = datapath.stats();
      return [...droppedOf('out', egress), ...droppedOf('in', ingress)];
    },
  );
  const pairs = Array.from({ length: datapath.pairs }, (_, pair) => pair);
  instruments.counter(
    'vl3_agent_worker_packets_total',
    'Packets that each pair of packet threads moved: whether the load is spread.',
    ['pair', 'direction'],
    () =>
      pairs.flatMap((pair): Sample[] => {
        const { egress, ingress } = datapath.stats(pair);
        return [
          [{ pair: `${pair}`, direction: 'out' }, egress.packets],
          [{ pair: `${pair}`, direction: 'in' }, ingress.packets],
        ];
      }),
  );
  instruments.counter(
    'vl3_agent_handed_over_total',
    'Messages that came to one packet thread and were handed over to another, whose session they are of.',
    [],
    () => [[{}, datapath.stats().ingress['handed-over']]],
  );
  instruments.counter(
    'vl3_agent_icmp_errors_total',
    'ICMP errors that pods were answered with: there is no way to a destination, or a packet is too big for it.',
    ['kind'],
    () => {
      const { unreachables, 'too-bigs': tooBigs } = datapath.stats().egress;
      return [
        [{ kind: 'unreachable' }, unreachables],
        [{ kind: 'too-big' }, tooBigs],
      ];
    },
  );
  instruments.counter(
    'vl3_agent_dropped_handshakes_total',
    'Handshake messages dropped, by reason; without a network where none could be told.',
    ['network', 'reason'],
    () => [
      ...devices.drops.entries().map(([reason, count]): Sample => [{ network: '', reason }, count]),
      ...networks.all.flatMap(({ network, tunnel }) =>
        tunnel.drops.map(([reason, count]): Sample => [{ network, reason }, count]),
      ),
    ],
  );
  instruments.gauge(
    'vl3_agent_aead_info',
    'Always 1; which implementation seals packets, fastest first: ipsec-mb, openssl-low-level, openssl-evp, noble.',
    ['tier'],
    () => [[{ tier: datapath.aeadTier }, 1]],
  );
};

const DROPPED = 'dropped:';

const droppedOf = (direction: string, counts: Readonly<Record<string, number>>): Sample[] =>
  Object.entries(counts).flatMap(([name, count]): Sample[] =>
    name.startsWith(DROPPED) ? [[{ direction, reason: name.slice(DROPPED.length) }, count]] : [],
  );

const addPeers = (
  instruments: Instruments,
  { networks, wall }: ObservedAgent,
  { eachPeer }: AgentMetricsOptions,
): void => {
  const ofEach = (read: (membership: Membership) => number) => (): Sample[] =>
    networks.all.map((one) => [{ network: one.network }, read(one)]);
  const ages = ({ peers, tunnel }: Membership): { peer: string; seconds: number }[] =>
    peers.all.flatMap(({ id, desired }) => {
      const at = tunnel.status(id)?.lastHandshake?.wallclock ?? 0;
      return at === 0 ? [] : [{ peer: desired.node, seconds: Math.max(0, (wall() - at) / 1000) }];
    });
  instruments.gauge(
    'vl3_agent_peers',
    'Peers configured.',
    ['network'],
    ofEach(({ peers }) => peers.all.length),
  );
  instruments.gauge(
    'vl3_agent_peers_with_session',
    'Peers that packets can be sent to at once.',
    ['network'],
    ofEach(
      ({ peers, tunnel }) => peers.all.filter(({ id }) => tunnel.status(id)?.keypair !== undefined).length,
    ),
  );
  instruments.counter(
    'vl3_agent_sessions_total',
    'Keypairs taken into use since the network was opened.',
    ['network'],
    ofEach(({ tunnel }) => tunnel.sessions),
  );
  instruments.gauge(
    'vl3_agent_handshake_age_max_seconds',
    'Time since the last handshake with the peer whose is longest ago.',
    ['network'],
    ofEach((one) => Math.max(0, ...ages(one).map(({ seconds }) => seconds))),
  );
  instruments.spread(
    'vl3_agent_handshake_age_seconds',
    'How long ago the last handshakes with the peers are, as of now (not since the start).',
    ['network'],
    HANDSHAKE_AGES,
    () =>
      networks.all.flatMap((one) =>
        ages(one).map(({ seconds }): Sample => [{ network: one.network }, seconds]),
      ),
  );
  if (!eachPeer) return;
  instruments.gauge(
    'vl3_agent_peer_handshake_age_seconds',
    'Time since the last handshake with each peer.',
    ['network', 'peer'],
    () =>
      networks.all.flatMap((one) =>
        ages(one).map(({ peer, seconds }): Sample => [{ network: one.network, peer }, seconds]),
      ),
  );
};

const addControl = (instruments: Instruments, agent: ObservedAgent): void => {
  const { networks, link } = agent;
  const status = (): Promise<AgentStatus> => agentStatus(agent, { probe: false });
  instruments.gauge('vl3_agent_networks', 'Networks of this node: up, or pending.', ['state'], () => [
    [{ state: 'up' }, networks.all.length],
    [{ state: 'pending' }, networks.pending.size],
  ]);
  instruments.gauge(
    'vl3_agent_watch_staleness_seconds',
    "Time since the network's watch at the registry last said something; it does every few seconds.",
    ['network'],
    () =>
      networks.all.map((one) => [
        { network: one.network },
        Math.max(0, (monotonicNow() - one.heardAt) / 1000),
      ]),
  );
  instruments.gauge(
    'vl3_agent_registry_connected',
    'Whether the registry answered the last heartbeat.',
    [],
    () => [[{}, link.problem === undefined && link.lastContactAt > 0 ? 1 : 0]],
  );
  instruments.gauge(
    'vl3_agent_svid_expiry_timestamp_seconds',
    "When this node's SVID ends, in Unix time.",
    [],
    () => [[{}, link.identity.notAfter / 1000]],
  );
  instruments.gauge(
    'vl3_agent_outage_budget_seconds',
    'How long this node can still do without the registry: until its SVID ends or nothing new is attached.',
    [],
    async () => {
      const { outageBudget, recordsUntil } = await status();
      const believedMs = recordsUntil === null ? Number.POSITIVE_INFINITY : recordsUntil - agent.wall();
      return [[{}, Math.max(0, Math.min(outageBudget.leftMs, believedMs) / 1000)]];
    },
  );
  instruments.gauge(
    'vl3_agent_problems',
    'Sentences that vl3 status would show as problems, without its probe.',
    [],
    async () => [[{}, (await status()).problems.length]],
  );
};

const addAddresses = (instruments: Instruments, { networks }: ObservedAgent): void => {
  instruments.gauge('vl3_agent_attachments', 'Attachments on this node.', ['network'], () =>
    networks.all.map((one) => [{ network: one.network }, one.attachments().length]),
  );
  instruments.gauge(
    'vl3_agent_leased_addresses',
    'Addresses in the prefixes this node leases.',
    ['network', 'family'],
    () => networks.all.flatMap(({ network, prefixes }) => leased(network, prefixes)),
  );
  instruments.gauge(
    'vl3_agent_used_addresses',
    'Addresses that attachments on this node hold.',
    ['network', 'family'],
    () =>
      networks.all.flatMap((one): Sample[] => {
        const all = one.attachments().flatMap(({ addresses }) => addresses);
        const v6 = all.filter((address) => address.includes(':')).length;
        return [
          [{ network: one.network, family: 'v4' }, all.length - v6],
          [{ network: one.network, family: 'v6' }, v6],
        ];
      }),
  );
};

/** No series where the informer is off. */
const addKubernetes = (instruments: Instruments, { informer }: ObservedAgent): void => {
  const of = (read: (status: InformerStatus) => Sample[]) => (): Sample[] =>
    informer === undefined ? [] : read(informer.status);
  instruments.gauge(
    'vl3_agent_kubernetes_in_sync',
    "Whether the informer sees the API server's pods and namespaces as they are now.",
    ['resource'],
    of(({ behind }) =>
      RESOURCES.map((resource): Sample => [{ resource }, behind.includes(resource) ? 0 : 1]),
    ),
  );
  instruments.gauge(
    'vl3_agent_kubernetes_pods',
    'Pods of this node: asked, those that ask for networks; none, the others.',
    ['networks'],
    of(({ pods, asking }) => [
      [{ networks: 'asked' }, asking],
      [{ networks: 'none' }, Math.max(0, pods - asking)],
    ]),
  );
};

const leased = (network: string, prefixes: readonly string[]): Sample[] => {
  const sums = { v4: 0, v6: 0 };
  for (const text of prefixes) {
    const { family, length } = parsePrefix(text);
    sums[family === 4 ? 'v4' : 'v6'] += 2 ** ((family === 4 ? 32 : 128) - length);
  }
  return Object.entries(sums).map(([family, count]) => [{ network, family }, count]);
};
