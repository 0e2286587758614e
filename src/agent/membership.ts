// One network on this node, put together from its parts: device, router, addresses, peers, and what keeps them in step
// with the registry. It opens from what was saved, without the registry; `run` then follows the registry until it is
// closed. Closing leaves everything in the kernel as it is; `remove` takes it all away. Each part has a file of its own: what
// makes this one long is that they are put together, and told what happens, in one place.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { formatAddress } from '../../native-free/ipam/prefix.ts';
import { ATTACHMENT, type AttachmentDocument, NETWORK } from '../../native-free/reconcile/documents.ts';
import { mustBeUsable } from '../../native-free/reconcile/joined-network.ts';
import { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import type { WatchNetworkResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { Network } from '../api/generated/vl3/v1/common_pb.js';
import { fromBase64, toBase64 } from '../base64.ts';
import { Tunnel, type TunnelDeps } from '../device/tunnel.ts';
import type { NamesContent } from '../identity/record-signer.ts';
import { NamesBook } from '../names/names-book.ts';
import { NetworkNames } from '../names/network-names.ts';
import { OwnNames } from '../names/own-names.ts';
import { namedNamespacePath } from '../netns/namespace.ts';
import type { Tools } from '../netns/tool.ts';
import { networkOf } from '../registry/messages.ts';
import { Addresses, type Rests } from './addresses.ts';
import { Announcer, type AnnouncerDeps } from './announcer.ts';
import type { Clock } from './clock.ts';
import { Grants } from './grants.ts';
import type { Home } from './home.ts';
import { OwnRecord } from './own-record.ts';
import { Peers } from './peers.ts';
import { PeerReachability } from './reachability.ts';
import { RecordBook } from './record-book.ts';
import { relisting } from './recovery.ts';
import { Router, TUN_NAME } from './router.ts';
import type { AgentState } from './state.ts';
import { StockPeerLinks } from './stock-peer-links.ts';
import type { SeenSurroundings } from './surroundings.ts';
import type { Trust } from './trust.ts';
import { type Refused, Verdicts } from './verdicts.ts';
import { NetworkWatch, type WatchPosition } from './watch.ts';

export interface MembershipOptions {
  /** As this node calls it: with the domain when it is another's. */
  readonly network: string;
  /** The name of its router namespace. */
  readonly router: string;
}

export interface MembershipDeps
  extends Omit<TunnelDeps, 'clock'>,
    Pick<AnnouncerDeps, 'sign' | 'attest' | 'svidId'> {
  /** Whose network it is. */
  readonly home: Home;
  readonly clock: Clock;
  readonly state: AgentState;
  readonly tools: Tools;
  readonly trust: Trust;
  /** All that this node is on. */
  readonly networks: () => readonly string[];
  /** As `sign`, for names. */
  readonly signNames: (content: NamesContent) => SignedRecord;
  /** The registry admits these no more. */
  readonly onRefused: (network: string, refused: readonly Refused[]) => void;
  /** What was refused may be admitted now. */
  readonly onRulesChanged: (network: string) => void;
  readonly rests?: Rests;
  readonly logger: Logger;
}

export class Membership {
  readonly network: string;
  readonly home: Home;
  readonly tunnel: Tunnel;
  readonly router: Router;
  readonly addresses: Addresses;
  readonly peers: Peers;
  readonly stockPeers: StockPeerLinks;
  readonly reachability: PeerReachability;
  readonly saved: SavedNetwork;
  readonly names: NetworkNames;
  readonly verdicts: Verdicts;
  /** Monotonic ms. */
  readonly openedAt: number;
  readonly #deps: MembershipDeps;
  readonly #book: RecordBook;
  readonly #grants: Grants;
  readonly #namesBook: NamesBook;
  readonly #announcer: Announcer;
  readonly #watch: NetworkWatch;
  #watchProblem: Vl3Error | undefined;
  /** Undefined until the first step since the start, which is a snapshot: what changed meanwhile is in it. */
  #position: WatchPosition | undefined;
  #mustRelist = false;
  #checkpointedSessions = 0;
  #heardAt: number;

  /** Opens the network's packet path from its document. Its owner has to route events to it before it is started. */
  static async open(options: MembershipOptions, deps: MembershipDeps): Promise<Membership> {
    const { network } = options;
    const { state, tools, home, trust, clock, logger } = deps;
    const { node, surroundings, trustDomain } = home;
    const saved = new SavedNetwork(network, state);
    const { name, privateKey, timestampMark, uid } = saved.document;
    const mtu = (): number => mtuOf(saved, surroundings);
    const addresses = new Addresses(saved, {
      client: home.client,
      now: clock.monotonic,
      moment: clock.moment,
      closing: () => saved.closing(clock.moment()),
      leaseCall: (call) => home.leaseCalls.run(call),
      ...(deps.rests !== undefined && { rests: deps.rests }),
      logger,
      onLeased: async () => {
        await router.setUp();
        peers.reconcile();
        membership.#announcer.announce();
      },
      announced: () => membership.#announcer.said,
    });
    const withdrawn = () => membership.reachability.prefixes;
    let stockPeers: StockPeerLinks | undefined;
    const router = new Router(options.router, {
      tools,
      saved,
      addresses,
      mtu,
      withdrawn,
      stockPeers: () => stockPeers?.addresses ?? [],
      logger,
    });
    const book = new RecordBook(
      { key: network, network: name, networkUid: uid, home: trustDomain, pools: saved.pools, node },
      { state, verifierOf: trust.verifierOf, logger },
      clock.moment(),
    );
    await router.make();
    const keys = { privateKey: fromBase64(privateKey), timestampMark: fromBase64(timestampMark) };
    const tun = { name: TUN_NAME, netns: namedNamespacePath(router.name), allowOffloads: true };
    const tunnel = Tunnel.open({ name: network, tun, mtu: mtu(), ...keys }, deps);
    const onChange = () => router.setUp();
    stockPeers = new StockPeerLinks({ network, state, tunnel, onChange, now: clock.monotonic });
    const verifyGrant = trust.verifyGrantOf(trustDomain);
    const grants = new Grants({ state, clock, logger, saved, home: trustDomain, verifyGrant });
    const parts = { node, state, saved, tunnel, book, grants, stockPeers };
    const peers = new Peers({ ...parts, surroundings, clock, logger });
    const membership = new Membership(
      saved,
      { tunnel, router, addresses, peers, stockPeers, book, grants },
      deps,
    );
    return membership;
  }

  private constructor(
    saved: SavedNetwork,
    parts: Pick<Membership, 'tunnel' | 'router' | 'addresses' | 'peers' | 'stockPeers'> & {
      readonly book: RecordBook;
      readonly grants: Grants;
    },
    deps: MembershipDeps,
  ) {
    const { home, trust } = deps;
    const { node } = home;
    const { name, uid: networkUid } = saved.document;
    this.network = saved.name;
    this.home = home;
    this.tunnel = parts.tunnel;
    this.router = parts.router;
    this.addresses = parts.addresses;
    this.peers = parts.peers;
    this.stockPeers = parts.stockPeers;
    this.reachability = new PeerReachability({
      ...parts,
      network: saved.name,
      liveness: (node) => this.#book.liveness(node),
      // Before the first step of a watch it has not answered since the start.
      registryAnswers: () => this.#watchProblem === undefined && this.hasListed,
      now: deps.clock.monotonic,
      logger: deps.logger,
    });
    this.#book = parts.book;
    this.#grants = parts.grants;
    this.verdicts = new Verdicts({
      saved,
      isForeign: !home.isOwn,
      ask: () => this.#announcer.attachmentsChanged(),
      problem: () => this.registryProblems[0],
      onRefused: (refused) => deps.onRefused(saved.name, refused),
    });
    this.saved = saved;
    this.#deps = deps;
    this.openedAt = deps.clock.monotonic();
    this.#heardAt = this.openedAt;
    const namesBook = new NamesBook(
      { key: saved.name, network: name, networkUid, home: home.trustDomain, node },
      { state: deps.state, verifierOf: trust.verifierOf, logger: deps.logger },
    );
    this.#namesBook = namesBook;
    const own = new OwnRecord({
      ...parts,
      namesBook,
      saved,
      home: home.trustDomain,
      surroundings: home.surroundings,
      clock: deps.clock,
    });
    const ownNames = new OwnNames({
      network: name,
      networkUid,
      home: home.trustDomain,
      attachments: () => this.attachments(),
      mayName: home.mayName,
      sign: deps.signNames,
      svidId: deps.svidId,
      nextSequence: () => own.nextSequence(),
      heardSequence: () => namesBook.ownSequence,
    });
    this.names = new NetworkNames(
      { node, network: saved.name, netns: namedNamespacePath(parts.router.name) },
      {
        pools: () => saved.pools,
        gateways: () => parts.addresses.gateways,
        own: ownNames,
        book: namesBook,
        peers: () =>
          this.peers.all.flatMap(({ desired, id }) => (this.reachability.isWithdrawn(id) ? [] : [desired])),
        networks: deps.networks,
        clock: deps.clock,
        logger: deps.logger,
      },
    );
    this.#announcer = new Announcer(
      {
        network: name,
        key: saved.name,
        networkUid,
        home: home.trustDomain,
        content: () => own.content(),
        attachments: () => this.attachments(),
        names: () => ownNames.signed(),
        onDecided: (asked, refused) => this.verdicts.decided(asked, refused),
        nextSequence: () => own.nextSequence(),
      },
      {
        client: home.client,
        sign: deps.sign,
        attest: deps.attest,
        svidId: deps.svidId,
        logger: deps.logger,
      },
    );
    this.#watch = new NetworkWatch(
      {
        network: name,
        key: saved.name,
        isForeign: !home.isOwn,
        position: () => this.#position,
        onStep: (step) => this.#onStep(step),
        onState: (problem) => {
          this.#watchProblem = problem;
          // This node is no member there, and was: a federation that came anew knows nothing of the one before.
          if (!home.isOwn && problem?.code === 'permission-denied') home.keeper.renewSoon();
        },
      },
      { client: home.client, logger: deps.logger },
    );
  }

  /** Configures the peers, initiates to those there was a session with, and sets the router up. */
  async start(): Promise<void> {
    this.peers.reconcile();
    await this.router.setUp();
    this.names.attachmentsChanged();
  }

  /** Watches the network and announces this node until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#announcer.run(signal), this.#watch.run(signal)]);
  }

  // --- what can be known

  get mtu(): number {
    return mtuOf(this.saved, this.home.surroundings);
  }

  /** Whether the MTU follows the underlay's. */
  get hasDerivedMtu(): boolean {
    return this.saved.document.mtu === 0;
  }

  /** What this node leases, oldest first. */
  get prefixes(): string[] {
    return this.saved.document.leases.map(({ prefix }) => prefix);
  }

  /** Unix ms since when nothing is attached; 0: something is. */
  get emptySince(): number {
    return this.saved.document.emptySince;
  }

  /** Leaving has begun: nothing may be attached before it has ended. */
  get isLeaving(): boolean {
    return this.saved.document.isLeaving;
  }

  markLeaving(): void {
    this.saved.change({ isLeaving: true });
  }

  attachments(): AttachmentDocument[] {
    return this.#deps.state
      .list(ATTACHMENT)
      .map(({ value }) => value)
      .filter((one) => one.network === this.network);
  }

  /** When the network's watch last said something, or this was opened: monotonic ms. */
  get heardAt(): number {
    return this.#heardAt;
  }

  /** Whether the registry has said who is on the network, since this was opened or it was asked anew. */
  get hasListed(): boolean {
    return this.#position !== undefined;
  }

  /** Who is on it is decided by rules. */
  get isRestricted(): boolean {
    return !this.home.isOwn || this.saved.document.isRestricted;
  }

  /** As the registry last said. */
  isAlive(node: string): boolean {
    return this.#book.isAlive(node);
  }

  /** Sentences about what is wrong between the network and the registry; while that is gone, it is gone for all alike. */
  get registryProblems(): string[] {
    return [
      ...(this.#watchProblem === undefined
        ? []
        : [`the registry cannot be watched: ${this.#watchProblem.message}`]),
      ...this.#announcer.problems,
    ];
  }

  /** Sentences about what else is wrong with the network on this node. */
  get problems(): string[] {
    return [
      ...this.addresses.excludedGateways.map(
        (address) =>
          `this node's gateway address ${formatAddress(address)} lies in an excluded range: it stays until the node leaves the network`,
      ),
      ...(this.router.problem === '' ? [] : [this.router.problem]),
      ...this.names.problems,
      ...this.peers.conflicts.map(
        (one) =>
          `${one.node} claims ${one.claim}, which ${one.heldBy} has held for longer: its claim is ignored`,
      ),
      ...(this.peers.refused === 0
        ? []
        : [
            `there is no room for ${this.peers.refused} more peers: leave a network, or spread the workloads over more nodes`,
          ]),
      ...[...this.#book.refusals].map(([node, reason]) => `the record of ${node} was refused: ${reason}`),
      ...this.#grants.refusals.map(([node, reason]) => `the grant of ${node} was refused: ${reason}`),
    ];
  }

  // --- what happens

  /** To be called several times a second. */
  tick(): void {
    this.tunnel.tick();
    this.reachability.tick();
    this.names.tick();
    // Whoever there is a session with is called at once after a restart, however soon that comes.
    if (this.tunnel.sessions !== this.#checkpointedSessions) this.checkpoint();
  }

  /** Writes down what a restart needs: learned endpoints and the handshake timestamps' mark. Cheap when unchanged. */
  checkpoint(): void {
    this.stockPeers.look();
    this.#checkpointedSessions = this.tunnel.sessions;
    const timestampMark = toBase64(this.tunnel.timestampMark);
    this.saved.transact(() => {
      if (timestampMark !== this.saved.document.timestampMark) this.saved.change({ timestampMark });
      this.peers.checkpoint();
    });
  }

  /** The node's SVID was renewed: what it signed is signed anew. */
  identityRenewed(): void {
    this.#announcer.announce();
    // With their names.
    this.#announcer.attachmentsChanged();
  }

  /** The registry answers again, after it did not. */
  registryIsBack(): void {
    this.#announcer.registryIsBack();
    this.#watch.registryIsBack();
  }

  /** The registry may have forgotten what it was told. */
  sayAgain(): void {
    this.#announcer.sayAgain();
  }

  /** The registry may not know what it knew: asks it for all it has. */
  relist(): void {
    this.#mustRelist = this.#position !== undefined;
  }

  /** The registry says whether it is recovering; asked at `askedAt` of CLOCK_BOOTTIME, of this store. */
  registryIsRecovering(isRecovering: boolean, storeId: string, askedAt: number): void {
    if (isRecovering) this.#book.listing.doubted();
    else if (this.#book.listing.decided(storeId, askedAt)) this.peers.reconcile();
  }

  /** Records of others that the registry does not know, once it has said what it knows in this store. */
  testimony(storeId: string): SignedRecord[] {
    if (this.#mustRelist || this.#position?.storeId !== storeId) return [];
    return this.#book.testimony(this.#deps.clock.moment());
  }

  /** Another bundle holds for a domain, or none any more. */
  trustChanged(trustDomain: string): void {
    this.#namesBook.trustChanged();
    const isOfHome = trustDomain === this.home.trustDomain;
    const isGrantedOtherwise = isOfHome && this.#grants.trustChanged();
    if (this.#book.trustChanged(trustDomain, this.#deps.clock.moment()) || isGrantedOtherwise)
      this.peers.reconcile();
  }

  /** What this node leases has begun or ceased to be its own. */
  claimsChanged(): void {
    this.peers.reconcile();
    this.#announcer.announce();
  }

  /** Forgets a prefix from which nothing is attached any more; false while something is. */
  async dropLease(prefix: string): Promise<boolean> {
    if (!this.addresses.forget(prefix)) return false;
    await this.router.setUp();
    this.claimsChanged();
    return true;
  }

  surroundingsChanged(): void {
    this.peers.surroundingsChanged();
    this.#announcer.announce();
  }

  /** The datapath, the router and the pods' interfaces take the new MTU at once. */
  async mtuChanged(): Promise<void> {
    this.tunnel.setMtu(this.mtu);
    await this.router.setUp();
    for (const attachment of this.attachments()) {
      if (attachment.ready) await this.connect(attachment);
    }
    this.#deps.logger.info({ network: this.network, mtu: this.mtu }, 'MTU changed');
  }

  /** Makes what the workload speaks through, or repairs it: an interface in its namespace, or a way in for a stock WireGuard. */
  async connect(attachment: AttachmentDocument): Promise<void> {
    if (attachment.stockPeer === undefined) await this.router.connect(attachment);
    else await this.stockPeers.link(attachment);
  }

  async disconnect(attachment: AttachmentDocument): Promise<void> {
    if (attachment.stockPeer === undefined) await this.router.disconnect(attachment);
    else await this.stockPeers.unlink(attachment);
  }

  /** Writes down whether anything is attached: an agent that died as the last attachment went has not. */
  noteUse(): void {
    this.saved.used(this.attachments().length === 0, this.#deps.clock.wall());
  }

  attachmentsChanged(): void {
    this.noteUse();
    this.names.attachmentsChanged();
    this.#announcer.attachmentsChanged();
  }

  // --- the registry

  async #onStep({ storeId, revision, stamp, step }: WatchNetworkResponse): Promise<void> {
    if (this.#mustRelist && step.case !== 'snapshot') {
      this.#mustRelist = false;
      this.#position = undefined;
      throw relisting();
    }
    this.#mustRelist = false;
    const before = this.#position;
    const wentBack = before?.storeId === storeId && revision < before.revision;
    const isOther = this.home.seen.watched({ storeId, revision, stamp }, wentBack);
    if (wentBack || isOther) this.home.storeReplaced();
    if (step.case === 'snapshot' || step.case === 'delta') {
      const { network, nodes, tombstones } = step.value;
      const now = this.#deps.clock.moment();
      if (step.case === 'snapshot') this.#book.listing.begin(storeId, now.boot);
      if (network !== undefined) await this.#applyNetwork(network);
      const { told } = this.home;
      for (const { node, record, alive, names, grant } of nodes) {
        const said = { record: sizeOf(record), names: sizeOf(names), grant: sizeOf(grant) };
        if (told?.take(this.network, node, said) === false) continue;
        this.#book.setAlive(node, alive);
        if (record !== undefined) this.#book.accept(node, record, now);
        if (names !== undefined) this.#namesBook.offer(node, names);
        if (grant !== undefined) this.#grants.accept(node, grant);
      }
      for (const { node, recordSequence } of tombstones)
        if (this.#book.bury(node, Number(recordSequence))) told?.buried(this.network, node);
      this.peers.reconcile();
      if (step.case === 'snapshot') this.#forgetNames(new Set(nodes.map(({ node }) => node)));
    }
    this.#position = { storeId, revision, stamp };
    this.#heardAt = this.#deps.clock.monotonic();
  }

  /** Of nodes that are on the network no more: those of others may be needed again, also when their record is withdrawn. */
  #forgetNames(listed: ReadonlySet<string>): void {
    const peers = new Set(this.peers.all.map(({ desired }) => desired.node));
    for (const node of this.#namesBook.nodes)
      if (!listed.has(node) && !peers.has(node)) this.#namesBook.forget(node);
  }

  /** Takes over what may change of a network, such as excluded prefixes and MTU. */
  async #applyNetwork(network: Network): Promise<void> {
    if (network.uid !== this.saved.document.uid) {
      this.#deps.logger.error({ network: this.network }, 'the registry has another network of this name');
      throw new Vl3Error(
        'failed-precondition',
        `the registry has another network named ${this.network} than this node is on: detach what is on it here first`,
      );
    }
    const before = this.mtu;
    const definition = networkOf(network);
    // What is written down is read at every start.
    mustBeUsable(definition, this.home.domain);
    this.#applyRules(network);
    this.saved.redefine(definition);
    if (this.mtu !== before) await this.mtuChanged();
  }

  /** Whoever is refused by them is told so in the answer to what is announced. */
  #applyRules({ isRestricted, rulesetVersion }: Network): void {
    const { document } = this.saved;
    const version = Number(rulesetVersion);
    if (document.isRestricted === isRestricted && document.rulesetVersion === version) return;
    this.saved.change({ isRestricted, rulesetVersion: version });
    this.#announcer.attachmentsChanged();
    this.#deps.onRulesChanged(this.network);
  }

  // --- the end

  /** Lets go; what the kernel has stays. */
  async close(): Promise<void> {
    await this.names[Symbol.asyncDispose]();
    this.peers.close();
    this.checkpoint();
    await this.tunnel.close();
  }

  /** Takes the network off this node for good. */
  async remove(): Promise<void> {
    await this.names[Symbol.asyncDispose]();
    this.peers.close();
    await this.tunnel.remove();
    await this.router.remove();
    this.home.told?.forget(this.network);
    this.#deps.state.transact(() => {
      this.#book.clear();
      this.#grants.clear();
      this.#namesBook.clear();
      this.peers.forget();
      this.#deps.state.delete(NETWORK, this.network);
    });
  }
}

/** Of what was signed, and by whom; undefined: nothing. */
const sizeOf = (signed: SignedRecord | undefined): number | undefined =>
  signed?.certificateChain.reduce((sum, one) => sum + one.length, signed.record.length);

const mtuOf = ({ document }: SavedNetwork, surroundings: SeenSurroundings): number =>
  document.mtu === 0 ? surroundings.derivedMtu : document.mtu;
