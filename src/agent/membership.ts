// One network on this node: its device, TUN and router namespace, the addresses the node hands out, and its peers. It
// opens from what was saved, without the registry; `run` then keeps it in step with the registry until it is closed.
// Closing leaves everything in the kernel as it is; `remove` takes it all away.

import { randomUUID } from 'node:crypto';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Logger } from 'pino';
import type { Action, DataPlaneEvent, PeerId } from '../../native-free/device/data-plane.ts';
import { Device, peerId } from '../../native-free/device/device.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { Allocator, allocatorStateSchema } from '../../native-free/ipam/allocator.ts';
import {
  type Address,
  type Family,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../../native-free/ipam/prefix.ts';
import type { Primitives, RandomBytes } from '../../native-free/noise/primitives.ts';
import type { Port } from '../../native-free/port/port.ts';
import { candidates } from '../../native-free/reconcile/endpoints.ts';
import {
  type Conflict,
  type DesiredPeer,
  desiredPeers,
  reconcilePeers,
} from '../../native-free/reconcile/peers.ts';
import { fromConnectError } from '../api/errors.ts';
import type { WatchNetworkResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { PrefixLease } from '../api/generated/vl3/v1/common_pb.js';
import type { Datapath } from '../datapath/datapath.ts';
import { closeTun, openTun, removeTun, type Tun } from '../datapath/tun.ts';
import type { RecordContent } from '../identity/record-signer.ts';
import { namedNamespacePath } from '../netns/namespace.ts';
import { ensureRouter, ensureRouterNamespace, readRouter, removeRouter } from '../netns/router.ts';
import type { Tools } from '../netns/tool.ts';
import { ensureAttachment, removeAttachment } from '../netns/veth.ts';
import { Announcer, type AnnouncerDeps } from './announcer.ts';
import { ATTACHMENT, type AttachmentDocument, NETWORK, type NetworkDocument, PEER } from './documents.ts';
import { RecordBook, type RecordBookDeps } from './record-book.ts';
import type { AgentState } from './state.ts';
import type { Surroundings } from './surroundings.ts';
import { type WatchPosition, watchNetwork } from './watch.ts';

/** The TUN's name in each router namespace. */
export const TUN_NAME = 'vl3';

/** How often a node behind a NAT keeps its mappings open (whitepaper section 6.5's suggestion). */
const NAT_KEEPALIVE_MS = 25_000;

/** Initiations at start: this many, then a pause, so that thousands of peers do not answer at once. */
const INITIATION_BURST = 32;

export interface MembershipOptions {
  readonly node: string;
  readonly network: string;
  /** The name of its router namespace. */
  readonly router: string;
}

export interface MembershipDeps {
  readonly state: AgentState;
  readonly tools: Tools;
  readonly datapath: Datapath;
  readonly port: Port;
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly clock: { monotonic(): number; wall(): number };
  readonly surroundings: Surroundings;
  readonly verify: RecordBookDeps['verify'];
  readonly sign: AnnouncerDeps['sign'];
  readonly svidId: AnnouncerDeps['svidId'];
  readonly client: AnnouncerDeps['client'];
  readonly logger: Logger;
}

export interface PeerView {
  readonly desired: DesiredPeer;
  readonly id: PeerId;
}

export class Membership {
  readonly network: string;
  readonly router: string;
  readonly #options: MembershipOptions;
  readonly #deps: MembershipDeps;
  readonly #device: Device;
  readonly #allocator: Allocator;
  readonly #tun: Tun;
  readonly #book: RecordBook;
  readonly #announcer: Announcer;
  readonly #peers = new Map<string, DesiredPeer>();
  #document: NetworkDocument;
  #conflicts: Conflict[] = [];
  #watchProblem: Vl3Error | undefined;
  #routerProblem = '';
  #leasing: Promise<void> | undefined;

  private constructor(
    options: MembershipOptions,
    deps: MembershipDeps,
    document: NetworkDocument,
    tun: Tun,
    device: Device,
  ) {
    this.network = options.network;
    this.router = options.router;
    this.#options = options;
    this.#deps = deps;
    this.#document = document;
    this.#tun = tun;
    this.#device = device;
    this.#allocator = new Allocator(allocatorStateSchema.parse(document.allocator));
    this.#book = new RecordBook(
      { network: options.network, networkUid: document.uid, pools: this.pools, node: options.node },
      { state: deps.state, verify: deps.verify, logger: deps.logger },
      deps.clock.wall(),
    );
    this.#announcer = new Announcer(
      {
        network: options.network,
        content: () => this.#recordContent(),
        attachments: () => this.attachments(),
        nextSequence: () => this.#nextSequence(),
      },
      { client: deps.client, sign: deps.sign, svidId: deps.svidId, logger: deps.logger },
    );
  }

  /** Opens the network's packet path from its document. Its owner has to route events to it before it is started. */
  static async open(options: MembershipOptions, deps: MembershipDeps): Promise<Membership> {
    const document = deps.state.get(NETWORK, options.network);
    if (document === undefined) throw new Vl3Error('internal', `there is no document of ${options.network}`);
    await ensureRouterNamespace(deps.tools, options.router);
    const tun = openTun({ name: TUN_NAME, netns: namedNamespacePath(options.router), allowOffloads: true });
    const device = new Device(
      {
        privateKey: new Uint8Array(Buffer.from(document.privateKey, 'base64')),
        timestampMark: new Uint8Array(Buffer.from(document.timestampMark, 'base64')),
      },
      { primitives: deps.primitives, random: deps.random, indices: deps.port },
    );
    const membership = new Membership(options, deps, document, tun, device);
    for (const { prefix } of document.leases) membership.#allocator.addPrefix(parsePrefix(prefix));
    deps.datapath.addDevice(options.network, tun, membership.mtu);
    deps.port.add(device);
    return membership;
  }

  /** Configures the peers, initiates to those there was a session with, and sets the router up. */
  async start(): Promise<void> {
    this.reconcile();
    await this.setUpRouter();
  }

  get device(): Device {
    return this.#device;
  }

  get document(): NetworkDocument {
    return this.#document;
  }

  get mtu(): number {
    return this.#document.mtu === 0 ? this.#deps.surroundings.derivedMtu : this.#document.mtu;
  }

  get gateways(): Address[] {
    return this.#families().flatMap((family) => this.#allocator.gateway(family) ?? []);
  }

  get peers(): PeerView[] {
    return [...this.#peers.values()].map((desired) => ({ desired, id: idOf(desired) }));
  }

  get conflicts(): readonly Conflict[] {
    return this.#conflicts;
  }

  /** As the registry last said. */
  isAlive(node: string): boolean {
    return this.#book.isAlive(node);
  }

  /** Sentences about what is wrong with the network on this node. */
  get problems(): string[] {
    return [
      ...(this.#routerProblem === '' ? [] : [this.#routerProblem]),
      ...(this.#watchProblem === undefined
        ? []
        : [`the registry cannot be watched: ${this.#watchProblem.message}`]),
      ...this.#announcer.problems,
      ...this.#conflicts.map(
        (one) =>
          `${one.node} claims ${one.claim}, which ${one.heldBy} has held for longer: its claim is ignored`,
      ),
      ...[...this.#book.refusals].map(([node, reason]) => `the record of ${node} was refused: ${reason}`),
    ];
  }

  get pools(): Prefix[] {
    return [this.#document.poolV4, this.#document.poolV6].filter((pool) => pool !== '').map(parsePrefix);
  }

  // --- packets

  /** Carries actions out, and keeps what the datapath reads in step. */
  carry(actions: readonly Action[]): void {
    if (actions.length > 0) this.#deps.datapath.apply(this.network, actions);
  }

  /** The network's SVID was renewed: what this node signed is signed anew. */
  identityRenewed(): void {
    this.#announcer.announce();
  }

  event(event: DataPlaneEvent): void {
    const { monotonic, wall } = this.#deps.clock;
    this.carry(this.#device.event(event, monotonic(), wall()));
  }

  tick(): void {
    const { datapath, clock } = this.#deps;
    this.carry(
      this.#device.tick(clock.monotonic(), clock.wall(), (peer) => datapath.activity(this.network, peer)),
    );
  }

  // --- peers

  /** Brings the device's peers in step with the verified records and with where this node is. */
  reconcile(): void {
    const { clock, surroundings } = this.#deps;
    const { peers, conflicts } = desiredPeers(this.#book.valid(clock.wall()), {
      node: this.#options.node,
      publicKey: Buffer.from(this.#device.publicKey).toString('base64'),
      claims: this.#document.leases,
    });
    this.#conflicts = conflicts;
    const actions = reconcilePeers(this.#peers, peers);
    if (actions.length === 0) return;
    const first: PeerId[] = [];
    for (const { kind, peer } of actions) {
      if (kind === 'remove') {
        this.#peers.delete(peer.publicKey);
        this.carry(this.#device.removePeer(idOf(peer)));
        this.#deps.datapath.removePeer(this.network, idOf(peer));
        this.#deps.state.delete(PEER, `${this.network}/${idOf(peer)}`);
      } else {
        this.#peers.set(peer.publicKey, peer);
        const known = this.#configure(peer);
        if (kind === 'add' && (known || surroundings.behindNat)) first.push(idOf(peer));
      }
      this.#deps.logger.info({ network: this.network, peer: peer.node, change: kind }, 'peer reconciled');
    }
    this.#publishAllowedIps();
    void this.#initiateAll(first);
  }

  /** The node moved (it is behind a NAT now, or at another site): what peers are told and tried changes. */
  surroundingsChanged(): void {
    const unreached: PeerId[] = [];
    for (const peer of this.#peers.values()) {
      this.#configure(peer);
      if (this.#device.status(idOf(peer))?.lastHandshake === undefined) unreached.push(idOf(peer));
    }
    this.#publishAllowedIps();
    if (this.#deps.surroundings.behindNat) void this.#initiateAll(unreached);
    this.#announcer.announce();
  }

  /** True when there was a session with the peer before. */
  #configure(peer: DesiredPeer): boolean {
    const { datapath, state, surroundings } = this.#deps;
    const id = idOf(peer);
    const learned = state.get(PEER, `${this.network}/${id}`);
    datapath.addPeer(this.network, id);
    const actions = this.#device.setPeer({
      publicKey: new Uint8Array(Buffer.from(peer.publicKey, 'base64')),
      allowedIps: peer.prefixes,
      endpoints: candidates(peer.endpoints, surroundings.site),
      learnedEndpoint: learned?.endpoint,
      persistentKeepalive: surroundings.behindNat ? NAT_KEEPALIVE_MS : 0,
    });
    this.carry(actions);
    return learned !== undefined;
  }

  #publishAllowedIps(): void {
    const entries = [...this.#device.allowedIps.entries()];
    this.#deps.datapath.setAllowedIps(
      this.network,
      entries.map(({ prefix, value }) => ({ prefix, peer: value })),
    );
  }

  async #initiateAll(peers: readonly PeerId[]): Promise<void> {
    const { monotonic, wall } = this.#deps.clock;
    for (const [i, id] of peers.entries()) {
      if (i % INITIATION_BURST === INITIATION_BURST - 1)
        await new Promise((resolve) => setTimeout(resolve, 20));
      this.carry(this.#device.initiate(id, monotonic(), wall()));
    }
  }

  // --- the registry

  /** Watches the network and announces this node until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#announcer.run(signal),
      watchNetwork(
        {
          network: this.network,
          position: () => this.#position(),
          onStep: (step) => this.#onStep(step),
          onState: (problem) => {
            this.#watchProblem = problem;
          },
        },
        { client: this.#deps.client, logger: this.#deps.logger },
        signal,
      ),
    ]);
  }

  /** The first step after a start is always a snapshot: what changed meanwhile is in it. */
  #seenSnapshot = false;

  #position(): WatchPosition | undefined {
    if (!this.#seenSnapshot) return undefined;
    return { storeId: this.#document.storeId, revision: BigInt(this.#document.revision) };
  }

  async #onStep({ storeId, revision, step }: WatchNetworkResponse): Promise<void> {
    const { clock } = this.#deps;
    if (step.case === 'snapshot' || step.case === 'delta') {
      const { network, nodes, tombstones } = step.value;
      if (step.case === 'snapshot') this.#seenSnapshot = true;
      if (network !== undefined) await this.applyNetwork(network);
      for (const { node, record, alive } of nodes) {
        this.#book.setAlive(node, alive);
        if (record !== undefined) this.#book.accept(node, record, clock.wall());
      }
      for (const { node, recordSequence } of tombstones) this.#book.bury(node, Number(recordSequence));
      this.reconcile();
    }
    this.#save({ storeId, revision: String(revision) });
  }

  /** Takes over what may change of a network: excluded prefixes and MTU. */
  async applyNetwork(network: { uid: string; excludedPrefixes: string[]; mtu: number }): Promise<void> {
    if (network.uid !== this.#document.uid) {
      this.#deps.logger.error({ network: this.network }, 'the registry has another network of this name');
      throw new Vl3Error(
        'failed-precondition',
        `the registry has another network named ${this.network} than this node is on: detach what is on it here first`,
      );
    }
    const before = this.mtu;
    this.#save({ excludedPrefixes: [...network.excludedPrefixes], mtu: network.mtu });
    if (this.mtu !== before) await this.mtuChanged();
  }

  /** The router and the datapath take the new MTU at once, the pods' interfaces as they are repaired. */
  async mtuChanged(): Promise<void> {
    this.#deps.datapath.setMtu(this.network, this.mtu);
    await this.setUpRouter();
    for (const attachment of this.attachments()) {
      if (attachment.ready) await this.connect(attachment);
    }
    this.#deps.logger.info({ network: this.network, mtu: this.mtu }, 'MTU changed');
  }

  #recordContent(): Omit<RecordContent, 'sequence'> {
    return {
      network: this.network,
      networkUid: this.#document.uid,
      publicKey: Buffer.from(this.#device.publicKey).toString('base64'),
      prefixes: this.#document.leases,
      endpoints: this.#deps.surroundings.endpoints,
    };
  }

  /** Unix ms or one more than the last: it grows also when the state was lost or the clock went back. */
  #nextSequence(): number {
    const recordSequence = Math.max(this.#document.recordSequence + 1, this.#deps.clock.wall());
    this.#save({ recordSequence });
    return recordSequence;
  }

  #save(change: Partial<NetworkDocument>): void {
    this.#document = { ...this.#document, ...change };
    this.#deps.state.put(NETWORK, this.network, this.#document);
  }

  /** Writes down what a restart needs: learned endpoints and the handshake timestamps' mark. Cheap when unchanged. */
  checkpoint(): void {
    const mark = Buffer.from(this.#device.timestampMark).toString('base64');
    this.#deps.state.transact(() => {
      if (mark !== this.#document.timestampMark) this.#save({ timestampMark: mark });
      for (const id of this.#device.peerIds) {
        const status = this.#device.status(id);
        const endpoint = status?.learnedEndpoint;
        if (endpoint === undefined || status?.lastHandshake === undefined) continue;
        const name = `${this.network}/${id}`;
        const saved = this.#deps.state.get(PEER, name)?.endpoint;
        if (saved?.address === endpoint.address && saved.port === endpoint.port) continue;
        this.#deps.state.put(PEER, name, { endpoint: { ...endpoint } });
      }
    });
  }

  // --- addresses and attachments

  #families(): Family[] {
    return this.pools.map(({ family }) => family);
  }

  /** One address of each family of the network for the attachment `owner`, written down before it is returned. */
  async allocate(owner: string, signal?: AbortSignal): Promise<Address[]> {
    for (;;) {
      const addresses: Address[] = [];
      const excluded = this.#document.excludedPrefixes.map(parsePrefix);
      let missing: Family | undefined;
      for (const family of this.#families()) {
        const address = this.#allocator.allocate(family, owner, excluded);
        if (address === undefined) missing = family;
        else addresses.push(address);
      }
      if (missing === undefined) {
        this.#save({ allocator: this.#allocator.toState() });
        return addresses;
      }
      for (const address of addresses) this.#allocator.free(address, owner);
      const family = missing;
      this.#leasing ??= this.#lease(family, signal).finally(() => {
        this.#leasing = undefined;
      });
      await this.#leasing;
    }
  }

  async #lease(family: Family, signal: AbortSignal | undefined): Promise<void> {
    const call = signal === undefined ? {} : { signal };
    const answer = await this.#deps
      .client()
      .leasePrefix({ network: this.network, family, requestId: randomUUID() }, call)
      .catch((error: unknown) => {
        throw fromConnectError(error);
      });
    const lease = leaseOf(answer.lease);
    this.#allocator.addPrefix(parsePrefix(lease.prefix));
    this.#save({ leases: [...this.#document.leases, lease], allocator: this.#allocator.toState() });
    this.#deps.logger.info({ network: this.network, prefix: lease.prefix }, 'prefix leased');
    await this.setUpRouter();
    this.#announcer.announce();
  }

  free(owner: string, addresses: readonly Address[]): void {
    for (const address of addresses) this.#allocator.free(address, owner);
    this.#save({ allocator: this.#allocator.toState() });
  }

  /** Makes the workload's interface, or repairs it. */
  async connect(attachment: AttachmentDocument): Promise<void> {
    await ensureAttachment(this.#deps.tools, {
      attachmentId: attachment.id,
      router: this.router,
      podNetns: attachment.netns,
      podInterface: attachment.interfaceName,
      addresses: attachment.addresses.map(parseAddress),
      gateways: this.gateways,
      pools: this.pools,
      mtu: this.mtu,
    });
  }

  async disconnect(attachment: AttachmentDocument): Promise<void> {
    await removeAttachment(this.#deps.tools, {
      attachmentId: attachment.id,
      router: this.router,
      addresses: attachment.addresses.map(parseAddress),
    });
  }

  /** Removes interfaces in the router namespace that no attachment accounts for. */
  async dropStrangers(): Promise<void> {
    const known = new Set(this.attachments().map(({ id }) => id));
    const found = (await readRouter(this.#deps.tools, this.router))?.attachments ?? [];
    for (const { attachmentId } of found) {
      if (known.has(attachmentId)) continue;
      await removeAttachment(this.#deps.tools, { attachmentId, router: this.router, addresses: [] });
      this.#deps.logger.warn({ network: this.network, attachment: attachmentId }, 'stray interface removed');
    }
  }

  attachmentsChanged(): void {
    const empty = this.attachments().length === 0;
    if (empty !== this.#document.emptySince > 0)
      this.#save({ emptySince: empty ? this.#deps.clock.wall() : 0 });
    this.#announcer.attachmentsChanged();
  }

  attachments(): AttachmentDocument[] {
    return this.#deps.state
      .list(ATTACHMENT)
      .map(({ value }) => value)
      .filter((one) => one.network === this.network);
  }

  // --- the kernel

  /** Brings the router namespace to what it ought to be; what fails is reported and tried again at the next call. */
  async setUpRouter(): Promise<void> {
    await ensureRouter(this.#deps.tools, {
      router: this.router,
      tun: TUN_NAME,
      mtu: this.mtu,
      gateways: this.gateways,
      pools: this.pools,
      prefixes: this.#document.leases.map(({ prefix }) => parsePrefix(prefix)),
    });
    this.#routerProblem = '';
  }

  /** Notes that the TUN was taken away under us. */
  tunLost(): void {
    this.#routerProblem = `the TUN in ${this.router} is gone: restart the agent to make it anew`;
    this.#deps.logger.error({ network: this.network, router: this.router }, 'TUN lost');
  }

  /** Lets go; what the kernel has stays. */
  async close(): Promise<void> {
    await this.#release();
    closeTun(this.#tun);
  }

  async #release(): Promise<void> {
    this.checkpoint();
    this.#deps.port.remove(this.#device);
    this.carry(this.#device.close());
    await this.#deps.datapath.removeDevice(this.network);
  }

  /** Takes the network off this node for good. */
  async remove(): Promise<void> {
    await this.#release();
    removeTun(this.#tun);
    await removeRouter(this.#deps.tools, this.router);
    this.#deps.state.transact(() => {
      this.#book.clear();
      for (const { name } of this.#deps.state.list(PEER)) {
        if (name.startsWith(`${this.network}/`)) this.#deps.state.delete(PEER, name);
      }
      this.#deps.state.delete(NETWORK, this.network);
    });
  }
}

const idOf = (peer: DesiredPeer): PeerId => peerId(new Uint8Array(Buffer.from(peer.publicKey, 'base64')));

/** A lease as it is written down and announced. */
export const leaseOf = (lease: PrefixLease | undefined): { prefix: string; leasedAt: number } => {
  if (lease === undefined) throw new Vl3Error('internal', 'the registry answered without a lease');
  parsePrefix(lease.prefix);
  return { prefix: lease.prefix, leasedAt: lease.leasedAt === undefined ? 0 : timestampMs(lease.leasedAt) };
};
