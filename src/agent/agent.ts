// The agent's composition root: what is opened here in order is closed in reverse. Above the line nothing on the machine
// is changed but the agent's own state; below it the port opens and networks come up.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import { Port } from '../../native-free/port/port.ts';
import { NODE } from '../../native-free/reconcile/documents.ts';
import { SeenStore } from '../../native-free/reconcile/seen-store.ts';
import { SvidTerm } from '../../native-free/reconcile/svid-term.ts';
import { check, name as networkName } from '../../native-free/registry/model.ts';
import { Cni } from '../cni/cni.ts';
import { Datapath } from '../datapath/datapath.ts';
import { compactMemory } from '../ffi/trim.ts';
import { createGrantVerifier } from '../identity/grant-signer.ts';
import type { Identity } from '../identity/identity.ts';
import { createRecordVerifier, signNames, signRecord } from '../identity/record-signer.ts';
import { connectKubernetes } from '../kube/kubernetes-api.ts';
import { type ClusterOptions, openInformer } from '../kube/open-informer.ts';
import { Tools } from '../netns/tool.ts';
import { opensslPrimitives } from '../noise/openssl-primitives.ts';
import type { Rests } from './addresses.ts';
import { Attachments } from './attachments.ts';
import { type Clock, systemClock } from './clock.ts';
import { type EnrolmentOptions, identify, Reenrolment } from './enrolment.ts';
import { credentialOf } from './enrolment-credential.ts';
import { Events } from './events.ts';
import { LeaseCalls } from './lease-calls.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { LocalApi } from './local-api.ts';
import { Networks } from './networks.ts';
import { Periodic } from './periodic.ts';
import { lockPrefix, mustKeepPrefix } from './prefix-lock.ts';
import { preflight } from './preflight.ts';
import { Recovery } from './recovery.ts';
import { RegistryLink } from './registry-link.ts';
import { Reserved } from './reserved.ts';
import { AgentState } from './state.ts';
import { agentStatus, type StatusParts } from './status.ts';
import { StockPeers } from './stock-peers.ts';
import { type Advertised, Surroundings } from './surroundings.ts';
import { Tidying } from './tidying.ts';
import { WakeUp } from './wake-up.ts';

export interface AgentOptions extends EnrolmentOptions {
  readonly runDirectory: string;
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
  for (const network of networks) check(networkName, network, `--network "${network}"`);
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
  const identity = await identify(options, { logger, clock, hasExpired, signal });
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
  const devices = new Port({ random, lanes: workerPairs });
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
  const moved = (): void => {
    const { endpoints, behindNat, site } = surroundings;
    logger.info({ endpoints, behindNat, site }, 'endpoints changed');
    for (const membership of networks.all) membership.surroundingsChanged();
  };
  const events = new Events(clock.wall);
  const seen = new SeenStore(state);
  const leaseCalls = new LeaseCalls();
  const link = opened.use(
    new RegistryLink(
      { stateDirectory: options.stateDirectory, identity },
      {
        state,
        clock,
        seen,
        logger,
        onObserved: (address) => {
          if (surroundings.seenAs(address)) moved();
        },
        onRenewed: () => {
          for (const membership of networks.all) membership.identityRenewed();
        },
        onStoreReplaced: () => recovery.storeReplaced(),
        onRecovering: ({ recovering, storeId, stamp }, askedAt) => {
          recovery.heard(recovering, stamp);
          for (const one of networks.all) one.registryIsRecovering(recovering, storeId, askedAt);
        },
        onBack: () => {
          keeper.registryIsBack();
          for (const membership of networks.all) membership.registryIsBack();
        },
        onMembershipsLost: (reason) => keeper.loseAll(reason),
        onEnrolledAnew: () => keeper.renewSoon(),
        ...(credential !== undefined && {
          reenrolment: new Reenrolment(
            { credential, stateDirectory: options.stateDirectory },
            { logger, clock },
          ),
        }),
      },
    ),
  );
  const verifierOf = ({ trustBundle: bundle }: Identity) => ({
    bundle,
    verify: createRecordVerifier(bundle),
    verifyGrant: createGrantVerifier(bundle),
  });
  let verifier = verifierOf(identity);
  const currentVerifier = () => {
    // Enrolling anew may be with the CA that came after a lost one.
    if (link.identity.trustBundle !== verifier.bundle) verifier = verifierOf(link.identity);
    return verifier;
  };
  const networks: Networks = opened.use(
    new Networks(
      { node, netnsPrefix: options.netnsPrefix, permanent: options.networks },
      {
        state,
        tools,
        datapath,
        port: devices,
        primitives,
        random,
        clock,
        surroundings,
        verify: (...signed) => currentVerifier().verify(...signed),
        verifyGrant: (...signed) => currentVerifier().verifyGrant(...signed),
        onRefused: (network, refused) => void attachments.refused(network, refused),
        onRulesChanged: (network) => attachments.rulesChanged(network),
        sign: (content) => signRecord(link.identity, content),
        signNames: (content) => signNames(link.identity, content),
        svidId: () => String(link.identity.notAfter),
        client: () => link.client,
        leaseCalls,
        seen,
        onStoreReplaced: () => recovery.storeReplaced(),
        onOpened: () => keeper.renewSoon(),
        ...(options.rests !== undefined && { rests: options.rests }),
        logger,
      },
    ),
  );
  const reserved = new Reserved({ ranges: options.reservedRanges ?? [] }, { tools, now: clock.monotonic });
  const keeper = new LeaseKeeper({
    state,
    networks,
    clock,
    calls: leaseCalls,
    client: () => link.client,
    seen,
    withdraw: (network, prefix, reason) => attachments.withdraw(network, prefix, reason),
    report: (event) => events.report(event),
    logger,
  });
  const recovery = new Recovery({
    memberships: () => networks.all,
    client: () => link.client,
    seen,
    renewLeases: () => keeper.renewSoon(),
    report: (event) => events.report(event),
    logger,
    clock,
  });
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
    { attachments, networks, home: () => link.identity.trustBundle.trustDomain, clock, logger },
  );
  const observed: ObservedAgent = {
    ...{
      informer,
      node,
      state,
      primitives,
      datapath,
      link,
      networks,
      attachments,
      keeper,
      recovery,
      events,
      surroundings,
      wall: clock.wall,
    },
    devices,
    tickedAt: () => tickedAt,
  };
  const api = opened.use(
    await LocalApi.listen(
      socket,
      {
        attach: (request) => attachments.attach(request),
        detach: (request) => attachments.detach(request),
        attachments: () => attachments.list(),
        stockPeers: new StockPeers({
          attachments,
          join: (network) => networks.join(network),
          member: (network) => networks.get(network),
          endpoints: () => surroundings.endpoints,
        }),
        status: (how) => agentStatus(observed, how),
        cni: new Cni({
          attachments,
          router: (network) => networks.get(network)?.router,
          homeDomain: () => link.identity.trustBundle.trustDomain,
          isLed: () => informer !== undefined,
        }),
      },
      logger,
    ),
  );
  // What ended while no agent ran goes before anything is restored.
  await keeper.begin();
  wakeUp = new WakeUp({ monotonic: clock.monotonic, takeDown: () => keeper.begin(), logger });
  const running = [
    link.run(stop.signal),
    networks.joinPermanent(stop.signal),
    keeper.run(stop.signal),
    recovery.run(stop.signal),
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
    seen.checkpoint();
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
    if (changed.endpoints) moved();
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
