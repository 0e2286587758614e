// What `vl3 status` shows, put together from the parts, and what is wrong in sentences.

import type { Endpoint } from '../../native-free/device/data-plane.ts';
import type { PeerStatus as DevicePeerStatus } from '../../native-free/device/peer.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import { gatewayOf } from '../../native-free/ipam/gateway.ts';
import { familyBits, formatAddress, formatPrefix } from '../../native-free/ipam/prefix.ts';
import type { Primitives } from '../../native-free/noise/primitives.ts';
import { WISH } from '../../native-free/reconcile/documents.ts';
import { foreignDomainOf } from '../../native-free/registry/foreign-key.ts';
import { domainOfKey } from '../../native-free/registry/network-key.ts';
import { toBase64 } from '../base64.ts';
import type { Datapath } from '../datapath/datapath.ts';
import type { Informer } from '../kube/informer.ts';
import { Gate } from '../netns/gate.ts';
import { VERSION } from '../version.ts';
import { echo } from './echo.ts';
import type { Events } from './events.ts';
import type { Federations } from './federations.ts';
import type { Home } from './home.ts';
import type { Homes } from './homes.ts';
import type { AgentStatus, FederationStatus, NetworkStatus, PeerStatus } from './local-messages.ts';
import type { Membership } from './membership.ts';
import type { Networks } from './networks.ts';
import { type BudgetParts, budgetSentence, isLow, type OutageBudget, outageBudget } from './outage-budget.ts';
import type { OwnIdentity } from './own-identity.ts';
import type { PeerView } from './peers.ts';
import type { RegistryLink } from './registry-link.ts';
import type { AgentState } from './state.ts';
import type { Surroundings } from './surroundings.ts';
import type { Upkeep } from './upkeep.ts';

export interface StatusParts {
  readonly node: string;
  readonly primitives: Primitives;
  readonly state: AgentState;
  readonly datapath: Datapath;
  readonly link: RegistryLink;
  /** Undefined: the registry gives this node its SVIDs. */
  readonly own: Pick<OwnIdentity, 'place' | 'problemOf'> | undefined;
  readonly networks: Networks;
  readonly attachments: { readonly upkeep: Pick<Upkeep, 'problems' | 'waiting'> };
  readonly homes: Homes;
  readonly federations: Federations;
  readonly informer: Pick<Informer, 'status' | 'hasSeen'> | undefined;
  readonly events: Events;
  readonly surroundings: Surroundings;
  readonly wall: () => number;
}

/** Milliseconds to an address inside the tunnel, from a router namespace; null: no answer. */
type Probe = (router: string, address: string) => Promise<number | null>;

/** Each echo is a process. */
const ECHOES_AT_A_TIME = 16;

const formatEndpoint = ({ address, port }: Endpoint): string => formatHostPort({ host: address, port });

/** Why there is no session with the peer; empty while nothing was tried. */
const withoutSession = (status: DevicePeerStatus | undefined): string => {
  if (status?.endpoint === undefined) return 'no way to reach it is known; it has to reach this node first';
  return status.isHandshaking ? `does not answer at ${formatEndpoint(status.endpoint)}` : '';
};

const peerStatus = async (
  { desired, id }: PeerView,
  membership: Membership,
  probe: Probe | undefined,
): Promise<PeerStatus> => {
  const status = membership.tunnel.status(id);
  const activity = membership.tunnel.activity(id);
  const hasSession = status?.keypair !== undefined;
  const [first] = desired.prefixes;
  // A granted address is a pod's own: whether that answers says nothing of the peer.
  const isNode = first !== undefined && first.length < familyBits(first.family);
  // Nor is this node's own address let in on another domain's network.
  const isProbed = probe !== undefined && hasSession && isNode && membership.home.isOwn;
  const rttMs = isProbed ? await probe(membership.router.name, formatAddress(gatewayOf(first))) : null;
  const silence = isProbed && rttMs === null ? 'has a session but does not answer inside the tunnel' : '';
  return {
    node: desired.node,
    publicKey: desired.publicKey,
    prefixes: desired.prefixes.map(formatPrefix),
    endpoint: status?.endpoint === undefined ? '' : formatEndpoint(status.endpoint),
    lastHandshakeAt: status?.lastHandshake?.wallclock ?? 0,
    rxBytes: activity?.rxBytes ?? 0,
    txBytes: activity?.txBytes ?? 0,
    pathMtu: membership.tunnel.pathMtu(id) ?? null,
    rttMs,
    isForeign: foreignDomainOf(desired.node) !== undefined,
    alive: membership.isAlive(desired.node),
    withdrawn: membership.reachability.isWithdrawn(id),
    problem: hasSession ? silence : withoutSession(status),
  };
};

type LeaseStatus = NetworkStatus['leases'][number];

const leasesOf = ({ homes, wall }: StatusParts, network: string): LeaseStatus[] =>
  homes.all
    .flatMap(({ keeper }) => keeper.leases)
    .filter((lease) => lease.network === network)
    .map(({ prefix, phase, leftMs, problem }) => ({
      prefix,
      phase,
      leftMs: Math.round(leftMs),
      endsAt: Math.round(wall() + leftMs),
      problem,
    }));

/** What is wrong with a lease, in a sentence; empty: nothing. */
const leaseProblem = ({ prefix, phase, problem }: LeaseStatus): string => {
  if (problem !== '') return `${prefix} is not renewed: ${problem}`;
  if (phase === 'good') return '';
  const so = phase === 'closing' ? 'nothing new is attached from it' : 'nothing is attached from it';
  return `the lease of ${prefix} could not be renewed: ${so} until it is`;
};

const networkStatus = async (
  parts: StatusParts,
  membership: Membership,
  probe: Probe | undefined,
): Promise<NetworkStatus> => ({
  name: membership.network,
  home: membership.home.trustDomain,
  isForeign: !membership.home.isOwn,
  isRestricted: membership.isRestricted,
  state: 'up',
  gateways: membership.addresses.gateways.map(formatAddress),
  prefixes: membership.prefixes,
  leases: leasesOf(parts, membership.network),
  mtu: membership.mtu,
  attachments: membership.attachments().length,
  publicKey: toBase64(membership.tunnel.publicKey),
  peers: await Promise.all(membership.peers.all.map((peer) => peerStatus(peer, membership, probe))),
  problem: [
    ...membership.problems,
    // Said once, for the node or the partner.
    ...(linkOf(parts, membership.home).problem === undefined ? membership.registryProblems : []),
    ...(parts.link.notEnrolledProblem === undefined
      ? leasesOf(parts, membership.network).map(leaseProblem)
      : []),
  ]
    .filter((problem) => problem !== '')
    .join('; '),
});

/** The line to the registry of a domain. */
const linkOf = ({ link, homes }: StatusParts, home: Home) =>
  homes.partners.find((partner) => partner.home === home)?.link ?? link;

const pendingStatus = (parts: StatusParts, [name, problem]: [string, string]): NetworkStatus => ({
  name,
  home: domainOfKey(name) ?? parts.homes.own.trustDomain,
  isForeign: domainOfKey(name) !== undefined,
  isRestricted: domainOfKey(name) !== undefined,
  state: 'pending',
  gateways: [],
  prefixes: [],
  leases: leasesOf(parts, name),
  mtu: 0,
  attachments: 0,
  publicKey: '',
  peers: [],
  problem,
});

const federationStatus = (parts: StatusParts, trustDomain: string): FederationStatus => {
  const { homes, federations, wall } = parts;
  const federation = federations.get(trustDomain);
  const partner = homes.partners.find(({ home }) => home.trustDomain === trustDomain);
  const networks = partner?.home.memberships.map(({ network }) => network) ?? [];
  const leases = partner?.home.keeper.leases ?? [];
  const budget = outageBudget({ svid: svidOfBudget(parts, leases.length > 0), leases });
  const isUsed = networks.length > 0;
  const problems = [
    ...(partner?.link.problem === undefined
      ? []
      : [`its registry does not answer: ${partner.link.problem.message}`]),
    ...(isUsed && isLow(budget) ? [budgetSentence(budget, wall())] : []),
    ...(partner?.home.recovery.problems ?? []),
    ...(partner?.home.told?.problem === undefined ? [] : [partner.home.told.problem]),
  ];
  return {
    trustDomain,
    registries: [...(federation?.registries ?? [])],
    isRevoked: federation?.isRevoked ?? true,
    isBelieved: federations.bundleOf(trustDomain) !== undefined,
    offered: [...(federation?.networks ?? [])],
    networks,
    isConnected: isUsed && partner?.link.problem === undefined && (partner?.link.lastContactAt ?? 0) > 0,
    lastContactAt: partner?.link.lastContactAt ?? 0,
    outageBudget: isUsed ? budget : null,
    problem: problems.join('; '),
  };
};

const problemsOf = (
  { link, own, state, surroundings, homes, federations, attachments, informer, wall }: StatusParts,
  networks: readonly NetworkStatus[],
  partners: readonly FederationStatus[],
  budget: OutageBudget,
): string[] => {
  const problems: string[] = [];
  if (state.problem !== '') problems.push(state.problem);
  problems.push(...surroundings.problems);
  // Then nothing else of it matters: no lease is renewed, and there is no time in which it could be.
  const { notEnrolledProblem } = link;
  if (notEnrolledProblem !== undefined) problems.push(notEnrolledProblem);
  else if (link.problem !== undefined) problems.push(`the registry does not answer: ${link.problem.message}`);
  else if (link.clockProblem !== undefined) problems.push(link.clockProblem);
  if (link.svidProblem !== undefined && notEnrolledProblem === undefined) problems.push(link.svidProblem);
  const sourceProblem = own?.problemOf(link.svidLeftMs, link.svidTermMs);
  if (sourceProblem !== undefined) problems.push(sourceProblem);
  if (isLow(budget) && notEnrolledProblem === undefined) problems.push(budgetSentence(budget, wall()));
  problems.push(...homes.own.recovery.problems);
  problems.push(...federations.problems);
  for (const { trustDomain, problem } of partners)
    if (problem !== '') problems.push(`partner ${trustDomain}: ${problem}`);
  for (const { value } of state.list(WISH))
    problems.push(`network ${value.network}: ${value.workload} waits to be attached: ${value.reason}`);
  problems.push(...attachments.upkeep.problems);
  problems.push(...(informer?.status.problems ?? []).map((one) => `Kubernetes: ${one}`));
  for (const network of networks) {
    if (network.problem !== '') problems.push(`network ${network.name}: ${network.problem}`);
    for (const peer of network.peers) {
      // A node that is not alive is expected to be silent.
      if (peer.problem !== '' && peer.alive)
        problems.push(`network ${network.name}, peer ${peer.node}: ${peer.problem}`);
    }
  }
  return problems;
};

const kubernetesStatus = ({ informer }: StatusParts): AgentStatus['kubernetes'] => {
  if (informer === undefined) return null;
  const { inSync, pods, asking } = informer.status;
  return { inSync, pods, asking };
};

/** Where the registry does not give SVIDs, none ends by its being gone. */
const svidOfBudget = ({ link, own }: StatusParts, hasLeases: boolean): BudgetParts['svid'] => {
  const leftMs = link.svidLeftMs;
  if (own === undefined) return { leftMs, termMs: link.svidTermMs };
  return hasLeases ? { leftMs: Number.POSITIVE_INFINITY, termMs: 0 } : { leftMs, termMs: leftMs };
};

/** `probe`: sends an echo through each tunnel that has a session. */
export const agentStatus = async (
  parts: StatusParts,
  { probe }: { probe: boolean },
): Promise<AgentStatus> => {
  const { node, datapath, link, networks, surroundings } = parts;
  const gate = new Gate(ECHOES_AT_A_TIME);
  const echoes: Probe | undefined = probe
    ? (router, address) => gate.pass(() => echo(router, address))
    : undefined;
  const joined = await Promise.all(networks.all.map((one) => networkStatus(parts, one, echoes)));
  // What is being left to be joined anew is both.
  const pending = [...networks.pending].filter(([name]) => networks.get(name) === undefined);
  const all = [...joined, ...pending.map((one) => pendingStatus(parts, one))];
  const { egress, ingress } = datapath.stats();
  const { identity } = link;
  const { leases } = parts.homes.own.keeper;
  const budget = outageBudget({ svid: svidOfBudget(parts, leases.length > 0), leases });
  const partners = parts.federations.all.map(({ trustDomain }) => federationStatus(parts, trustDomain));
  return {
    node,
    trustDomain: identity.trustBundle.trustDomain,
    version: VERSION,
    port: datapath.port,
    primitives: parts.primitives.name,
    aead: datapath.aeadTier,
    offloads: Object.entries(datapath.offloads)
      .filter(([, on]) => on)
      .map(([name]) => name),
    registry: {
      connected: link.problem === undefined && link.lastContactAt > 0,
      addresses: [...identity.registries],
      lastContactAt: link.lastContactAt,
      problem: link.notEnrolledProblem ?? link.problem?.message ?? '',
      refusesThisNode: link.notEnrolledProblem !== undefined,
    },
    svidNotAfter: identity.notAfter,
    svidSource: parts.own?.place ?? '',
    outageBudget: budget,
    // Where the registry gives SVIDs, the budget says it.
    recordsUntil: parts.own === undefined ? null : link.believedUntil || identity.notAfter,
    behindNat: surroundings.behindNat,
    endpoints: surroundings.endpoints.map(formatEndpoint),
    networks: all,
    federations: partners,
    kubernetes: kubernetesStatus(parts),
    drops: { ...egress, ...ingress },
    problems: problemsOf(parts, all, partners, budget),
    events: [...parts.events.all],
  };
};
