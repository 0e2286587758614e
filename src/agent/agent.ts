// The agent's composition root: what is opened here in order is closed in reverse. Above the line nothing on the machine
// is changed but the agent's own state; below it the port opens and networks come up.
// Long, since the order is the point.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import { Port } from '../../native-free/port/port.ts';
import { NODE } from '../../native-free/reconcile/documents.ts';
import { SvidTerm } from '../../native-free/reconcile/svid-term.ts';
import { check } from '../../native-free/registry/model.ts';
import { domainOfKey, networkKey, networkKeyAt } from '../../native-free/registry/network-key.ts';
import { Cni } from '../cni/cni.ts';
import { Datapath } from '../datapath/datapath.ts';
import { lanesOf } from '../datapath/worker-pairs.ts';
import { compactMemory } from '../ffi/trim.ts';
import { type Identity, isLeased } from '../identity/identity.ts';
import { signAttestation, signNames, signRecord } from '../identity/record-signer.ts';
import { connectKubernetes } from '../kube/kubernetes-api.ts';
import { type ClusterOptions, openInformer } from '../kube/open-informer.ts';
import { Tools } from '../netns/tool.ts';
import { opensslPrimitives } from '../noise/openssl-primitives.ts';
import type { Rests } from './addresses.ts';
import { Attachments } from './attachments.ts';
import { type Clock, systemClock } from './clock.ts';
import { HeardStatement } from './domain-statement.ts';
import { type EnrolmentOptions, identify, Reenrolment } from './enrolment.ts';
import { credentialOf } from './enrolment-credential.ts';
import { Events } from './events.ts';
import { Federations } from './federations.ts';
import { Homes } from './homes.ts';
import { LocalApi } from './local-api.ts';
import { Networks } from './networks.ts';
import { OwnIdentity, type OwnIdentityOptions } from './own-identity.ts';
import { Periodic } from './periodic.ts';
import { lockPrefix, mustKeepPrefix } from './prefix-lock.ts';
import { preflight } from './preflight.ts';
import { RegistryLink } from './registry-link.ts';
import { Reserved } from './reserved.ts';
import { AgentState } from './state.ts';
import { agentStatus, type StatusParts } from './status.ts';
import { StockPeers } from './stock-peers.ts';
import { type Advertised, Surroundings } from './surroundings.ts';
import { Tidying } from './tidying.ts';
import { Trust } from './trust.ts';
import { WakeUp } from './wake-up.ts';

export interface AgentOptions extends EnrolmentOptions {
  readonly runDirectory: string;
  /** SVIDs come from there, and not from the registry: then nothing is enrolled with. */
  readonly ownIdentity?: OwnIdentityOptions;
  /** Router namespaces are named this and the network. */
  readonly netnsPrefix: string;
  /** Joined at once and never left. */
  readonly networks: readonly string[];
  readonly advertise: readonly Advertised[];
  readonly defaultPort: number;
  /** Of threads that move packets: 1, 2, 4 or 8. */
  readonly workerPairs: number;
  /** Packets of flows that send little are marked, and received first. */
  readonly sparseFirst: boolean;
  /** What workloads reach outside of vl3 and no route shows, e.g. a cluster's service range. */
  readonly reservedRanges?: readonly Prefix[];
  readonly rests?: Rests;
  /** The cluster whose pods on this node are put on networks. Default: none. */
  readonly kubernetes?: ClusterOptions;
  /** Default: the port used before, else `defaultPort`. */
  readonly port?: number;
}

export interface AgentDependencies {
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** What metrics and health checks look at. */
export interface ObservedAgent extends StatusParts {
  readonly devices: Port;
  /** When the devices' timers last ran, monotonic ms. */
  readonly tickedAt: () => number;
}

export interface RunningAgent extends AsyncDisposable {
  readonly node: string;
  readonly observed: ObservedAgent;
  /** Rejects when the datapath dies: the process has to end, and be started again. */
  readonly failed: Promise<never>;
}

const TICK_MS = 100;
const CHECKPOINT_MS = 2_000;
const PURSUE_MS = 1_000;
const SWEEP_MS = 5_000;
const LOOK_AROUND_MS = 15_000;

/** Before anything is made: enrolling uses the token up, and joining leases prefixes. */
const checkOptions = ({ netnsPrefix, networks }: AgentOptions): void => {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/.test(netnsPrefix)) {
    throw new Vl3Error(
      'invalid-argument',
      `--netns-prefix "${netnsPrefix}" cannot begin a namespace's name: use at most 32 letters, digits, "-", "_" or "."`,
    );
  }
  for (const network of networks) check(networkKey, network, `--network "${network}"`);
};

/** Starts the agent; networks and attachments of an earlier life go on. Throws Vl3Error with a remedy. */
export const startAgent = async (options: AgentOptions, deps: AgentDependencies): Promise<RunningAgent> => {
  const { logger, signal } = deps;
  checkOptions(options);
  preflight(options);
  const stop = new AbortController();
  const cluster =
    options.kubernetes && (await connectKubernetes(options.kubernetes, () => node, stop.signal));
  const clock = deps.clock ?? systemClock();
  const primitives = opensslPrimitives;
  await using opened = new AsyncDisposableStack();
  const state = opened.use(new AgentState(options.stateDirectory));
  opened.use(await lockPrefix(options.netnsPrefix));
  const socket = join(options.runDirectory, 'agent.sock');
  // Before a token is used up.
  await LocalApi.mustBeFree(socket);
  const hasExpired = (svid: Identity): boolean =>
    new SvidTerm(svid, state, clock.moment(), Math.random).leftMs(clock.moment()) <= 0;
  mustKeepPrefix(state.get(NODE, 'self')?.netnsPrefix, options.netnsPrefix);
  const own =
    options.ownIdentity &&
    opened.use(await OwnIdentity.open({ ...options, ...options.ownIdentity }, { logger, clock }));
  const identity = await (own?.identify(signal) ?? identify(options, { logger, clock, hasExpired, signal }));
  const node = identity.name;
  const credential = credentialOf(options);
  const tools = new Tools();
  const port = options.port ?? state.get(NODE, 'self')?.port ?? options.defaultPort;

  // --- from here on the machine is changed

  let wakeUp: WakeUp | undefined;
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
  const { workerPairs, sparseFirst } = options;
  const devices = new Port({ random, lanes: lanesOf(workerPairs) });
  const datapath = opened.use(
    await Datapath.start(
      { port, pairs: workerPairs, sparseFirst },
      {
        onEvent: (network, event) => networks.get(network)?.tunnel.event(event),
        onPathEvent: (network, event) => networks.get(network)?.tunnel.pathEvent(event),
        onDatagram: (datagram, source, waiting, network) => {
          if (wakeUp?.mayGoOn() === false) return;
          const likely = network === undefined ? undefined : networks.get(network)?.tunnel;
          const [now, wall] = [clock.monotonic(), clock.wall()];
          const received = devices.receive(datagram, source, now, wall, waiting, likely?.device);
          if (received === undefined) return;
          const { device, actions } = received;
          const tunnel = likely?.is(device)
            ? likely
            : networks.all.find((one) => one.tunnel.is(device))?.tunnel;
          tunnel?.carry(actions);
        },
        onDeviceLost: (network) => networks.get(network)?.router.tunLost(),
        onFailure: (cause) => {
          failure.reject(
            new Vl3Error('internal', `the datapath died: ${cause.message}: start the agent again`, { cause }),
          );
        },
      },
    ),
  );
  // Only now: a port that is taken must not be tried again at the next start.
  state.put(NODE, 'self', { name: node, port, netnsPrefix: options.netnsPrefix });
  const surroundings = await Surroundings.discover({ advertised: options.advertise, port }, { tools });
  const events = new Events(clock.wall);
  const { trustDomain } = identity.trustBundle;
  // Networks end before what they hang on.
  const homes: Homes = opened.use(
    new Homes(
      { trustDomain, node },
      {
        ...{ state, clock, surroundings, logger },
        client: () => link.client,
        networks: () => networks,
        federations: () => federations,
        identity: () => link.identity,
        withdraw: (network, prefix, reason) => attachments.withdraw(network, prefix, reason),
        withdrawAll: (network, reason) => attachments.withdrawAll(network, reason),
        onDomainsChanged: () => attachments.hurry((network) => domainOfKey(network) !== undefined),
        report: (event) => events.report(event),
      },
    ),
  );
  const statement = new HeardStatement({ state, clock, logger });
  let linked: RegistryLink | undefined;
  /** Asked for each signature that is verified. */
  let looked: { readonly identity: Identity; readonly isLeased: boolean } | undefined;
  const isOfApart = (present: Identity): boolean => {
    if (looked?.identity !== present) looked = { identity: present, isLeased: isLeased(present) };
    return looked.isLeased;
  };
  const federations: Federations = new Federations({
    ...{ state, clock, logger },
    own: () => trustDomain,
    client: () => link.client,
    vouched: () => (isOfApart(linked?.identity ?? identity) ? statement.partners : undefined),
    onChanged: (domain) => homes.changed(domain),
  });
  homes.open();
  const link: RegistryLink = opened.use(
    new RegistryLink(
      { stateDirectory: options.stateDirectory, identity },
      {
        state,
        clock,
        seen: homes.own.seen,
        logger,
        onObserved: (address) => homes.own.observed(address),
        onRenewed: () => {
          homes.identityRenewed();
          for (const membership of networks.all) membership.identityRenewed();
        },
        statement,
        onTrustChanged: () => {
          homes.ownTrustChanged();
          federations.vouchedChanged();
        },
        onStoreReplaced: () => homes.own.storeReplaced(),
        onRecovering: (answer, askedAt) => homes.own.heard(answer, askedAt),
        onBack: () => homes.own.isBack(),
        onFederations: (version, isRecovering) => federations.heard(version, isRecovering),
        isFederated: () => federations.all.length > 0,
        onMembershipsLost: (reason) => homes.own.keeper.loseAll(reason),
        onEnrolledAnew: () => homes.own.keeper.renewSoon(),
        own,
        ...(credential !== undefined && {
          reenrolment: new Reenrolment(
            { credential, stateDirectory: options.stateDirectory },
            { logger, clock },
          ),
        }),
      },
    ),
  );
  linked = link;
  const trust = new Trust({
    own: () => statement.believed(link.identity.trustBundle),
    partner: (domain) => federations.bundleOf(domain),
  });
  const networks: Networks = opened.use(
    new Networks(
      {
        netnsPrefix: options.netnsPrefix,
        permanent: options.networks.map((network) => networkKeyAt(trustDomain, network)),
      },
      {
        state,
        tools,
        datapath,
        port: devices,
        primitives,
        random,
        clock,
        trust,
        homeOf: (domain) => homes.of(domain),
        onRefused: (network, refused) => void attachments.refused(network, refused),
        onRulesChanged: (network) => attachments.rulesChanged(network),
        sign: (content) => signRecord(link.identity, content),
        signNames: (content) => signNames(link.identity, content),
        attest: (content, nextSequence) =>
          // Of a partner nobody here knows where its signer is.
          isOfApart(link.identity) || content.home !== trustDomain
            ? signAttestation(link.identity, { ...content, sequence: nextSequence() })
            : undefined,
        svidId: () => String(link.identity.notAfter),
        ...(options.rests !== undefined && { rests: options.rests }),
        logger,
      },
    ),
  );
  const reserved = new Reserved({ ranges: options.reservedRanges ?? [] }, { tools, now: clock.monotonic });
  const every = (milliseconds: number, work: () => void | Promise<void>): void => {
    opened.use(new Periodic(milliseconds, work, logger));
  };
  let tickedAt = clock.monotonic();
  every(TICK_MS, () => {
    if (wakeUp?.mayGoOn() === false) return;
    for (const membership of networks.all) membership.tick();
    tickedAt = clock.monotonic();
  });
  await networks.openSaved();

  const tidying = opened.use(new Tidying(compactMemory));
  const attachments = opened.use(
    new Attachments({
      state,
      tools,
      logger,
      clock,
      join: (network) => networks.join(network),
      member: (network) => networks.get(network),
      settled: (network) => networks.settled(network),
      reserved: (netns) => reserved.of(netns),
      onChange: () => tidying.changed(),
    }),
  );
  const informer = openInformer(
    cluster,
    { runDirectory: options.runDirectory, runtimeEndpoint: options.kubernetes?.runtimeEndpoint },
    { attachments, networks, domains: () => homes.domains, clock, logger },
  );
  const observed: ObservedAgent = {
    ...{
      informer,
      node,
      state,
      primitives,
      datapath,
      link,
      own,
      networks,
      attachments,
      homes,
      federations,
      events,
      surroundings,
      wall: clock.wall,
    },
    devices,
    tickedAt: () => tickedAt,
  };
  /** Whoever names the own domain means the own network. */
  const keyed = <R extends { readonly network: string }>(request: R): R => ({
    ...request,
    network: networkKeyAt(trustDomain, request.network),
  });
  const api = opened.use(
    await LocalApi.listen(
      socket,
      {
        attach: async (request) => {
          const one = keyed(request);
          const domain = domainOfKey(one.network);
          // Whoever has federated just now need not wait for the next heartbeat.
          if (domain !== undefined && federations.get(domain) === undefined) await federations.refresh();
          return await attachments.attach(one);
        },
        detach: (request) => attachments.detach('id' in request ? request : keyed(request)),
        attachments: () => attachments.list(),
        stockPeers: new StockPeers({
          own: trustDomain,
          attachments,
          join: (network) => networks.join(network),
          member: (network) => networks.get(network),
          endpoints: () => surroundings.endpoints,
        }),
        status: (how) => agentStatus(observed, how),
        cni: new Cni({
          attachments,
          router: (network) => networks.get(network)?.router,
          domains: () => homes.domains,
          isLed: () => informer !== undefined,
        }),
      },
      logger,
    ),
  );
  // What ended while no agent ran goes before anything is restored.
  await homes.begin();
  wakeUp = new WakeUp({ monotonic: clock.monotonic, takeDown: () => homes.begin(), logger });
  const running = [
    link.run(stop.signal),
    networks.joinPermanent(stop.signal),
    homes.run(stop.signal),
    ...(informer === undefined ? [] : [informer.run(stop.signal)]),
  ];
  opened.defer(async () => {
    stop.abort();
    await Promise.all(running);
  });
  await Promise.all(networks.all.map(({ network }) => attachments.upkeep.restore(network)));
  every(PURSUE_MS, () => attachments.pursue());
  every(CHECKPOINT_MS, () => {
    for (const membership of networks.all) {
      membership.checkpoint();
      membership.peers.expire();
    }
    for (const { seen } of homes.all) seen.checkpoint();
  });
  every(SWEEP_MS, async () => {
    const isBusy = (network: string): boolean => attachments.isBusy(network);
    const opened = await networks.heal(isBusy);
    for (const network of opened) await attachments.upkeep.restore(network);
    await attachments.upkeep.sweep();
    for (const { addresses, isLeaving } of networks.all) if (!isLeaving) await addresses.giveBack();
    await networks.leaveUnused((network) => isBusy(network) || attachments.isWanted(network));
  });
  every(LOOK_AROUND_MS, async () => {
    const changed = await surroundings.refresh();
    if (changed.endpoints) for (const home of homes.all) home.moved();
    for (const { network } of networks.all) await attachments.upkeep.mend(network);
    if (!changed.mtu) return;
    for (const membership of networks.all) {
      if (membership.hasDerivedMtu) await membership.mtuChanged();
    }
  });
  logger.info(
    {
      node,
      port,
      socket: api.path,
      primitives: primitives.name,
      aead: datapath.aeadTier,
      offloads: datapath.offloads,
    },
    'agent is up',
  );
  const owned = opened.move();
  return { node, observed, failed: failure.promise, [Symbol.asyncDispose]: () => owned.disposeAsync() };
};
