// One network on a simulated node: a tunnel, the addresses the node hands out, the records it believes, and what it
// announces. The order of writes and calls is that of src/agent (membership, peers, addresses, announcer); decisions are
// the same functions. Ends with its agent's process.

import { peerId } from '../device/device.ts';
import { type Time, Tunnel } from '../device/tunnel.ts';
import { Vl3Error } from '../error.ts';
import type { Allocator } from '../ipam/allocator.ts';
import { allocatorStateSchema } from '../ipam/allocator.ts';
import { NodeAddresses } from '../ipam/node-addresses.ts';
import { type Address, type Family, type Prefix, parseAddress, parsePrefix } from '../ipam/prefix.ts';
import { Announcements, type Due } from '../reconcile/announcements.ts';
import { candidates } from '../reconcile/endpoints.ts';
import { type DesiredPeer, desiredPeers, reconcilePeers } from '../reconcile/peers.ts';
import { RecordBook } from '../registry/record-book.ts';
import type { NetworkStep } from '../registry/view.ts';
import type { AgentContext } from './agent.ts';
import { fromBase64, toBase64 } from './base64.ts';
import { ATTACHMENT, NETWORK, PEER, RECORD, type SavedAttachment, type SavedNetwork } from './documents.ts';
import { momentOf } from './moment.ts';
import { attempt, type Outcome, orFail } from './outcome.ts';
import type { WatchMessage, WatchPosition } from './registry.ts';
import type { RecordContent } from './signer.ts';

const NAT_KEEPALIVE_MS = 25_000;
const FIRST_BACKOFF_MS = 250;
const BACKOFF_CAP_MS = 15_000;

type Content = Omit<RecordContent, 'sequence'>;

export class SimulatedMembership {
  readonly network: string;
  readonly tunnel: Tunnel;
  readonly allocator: Allocator;
  readonly #context: AgentContext;
  readonly #addresses: NodeAddresses;
  readonly #book: RecordBook;
  readonly #announcements: Announcements<Content>;
  readonly #peers = new Map<string, DesiredPeer>();
  readonly #families: Family[];
  #saved: SavedNetwork;
  #position: WatchPosition | undefined;
  #stream: { close(): void } | undefined;
  #isAnnouncing = false;
  #announceFailures = 0;
  #watchFailures = 0;
  #isClosed = false;
  #valid = 0;

  constructor(saved: SavedNetwork, context: AgentContext) {
    const { documents, kernel, hooks, primitives, port, internet, name, signer } = context;
    this.network = saved.name;
    this.#context = context;
    this.#saved = saved;
    const pools = saved.pools.map(parsePrefix);
    this.#families = pools.map(({ family }) => family);
    this.allocator = hooks.allocator(allocatorStateSchema.parse(saved.allocator));
    for (const { prefix } of saved.leases) this.allocator.addPrefix(parsePrefix(prefix));
    this.#addresses = new NodeAddresses({
      allocator: this.allocator,
      save: (allocator) => this.#change({ allocator }),
      transact: (change) => this.#transact(change),
    });
    const start = `${this.network}/`;
    this.#book = new RecordBook(
      { network: this.network, networkUid: saved.uid, pools, node: name },
      {
        saved: {
          list: () =>
            documents
              .list(RECORD)
              .filter((one) => one.name.startsWith(start))
              .map((one) => ({
                node: one.name.slice(start.length),
                signed: {
                  record: fromBase64(one.value.record),
                  signature: fromBase64(one.value.signature),
                  certificateChain: one.value.certificateChain.map(fromBase64),
                },
              })),
          put: (node, signed) =>
            documents.put(RECORD, start + node, {
              record: toBase64(signed.record),
              signature: toBase64(signed.signature),
              certificateChain: signed.certificateChain.map(toBase64),
            }),
          delete: (node) => documents.delete(RECORD, start + node),
        },
        verify: signer.verify,
        report: (what) => context.counters.add(`records ${what}`),
      },
      momentOf(context.time()),
    );
    this.#announcements = new Announcements<Content>({
      content: () => this.#content(),
      svidId: () => context.identity().serial,
    });
    this.tunnel = new Tunnel(
      {
        privateKey: fromBase64(saved.privateKey),
        timestampMark: fromBase64(saved.timestampMark),
        mtu: context.mtu,
      },
      {
        primitives,
        random: context.randomBytes,
        port,
        inside: { deliver: (packet) => kernel.toPod(hooks.networkOf(this.network), packet) },
        outside: { send: (datagram, endpoint) => internet.send(name, datagram, endpoint) },
      },
    );
  }

  start(): void {
    this.#reconcile();
    this.#watch();
    this.#announce();
  }

  /** Lets go; what the kernel and the disk have stays. */
  close(): void {
    this.#isClosed = true;
    this.#stream?.close();
    this.tunnel.close(this.#time);
  }

  get saved(): SavedNetwork {
    return this.#saved;
  }

  get attachments(): SavedAttachment[] {
    return this.#context.documents
      .list(ATTACHMENT)
      .map(({ value }) => value)
      .filter(({ network }) => network === this.network);
  }

  get peers(): readonly DesiredPeer[] {
    return [...this.#peers.values()];
  }

  // --- packets

  tick(): void {
    this.tunnel.tick(this.#time);
  }

  fromPod(packet: Uint8Array): void {
    this.tunnel.fromInside(packet, this.#time);
  }

  /** Writes down what a restart needs: learned endpoints and the handshake timestamps' mark. */
  checkpoint(): void {
    const { documents } = this.#context;
    const { device } = this.tunnel;
    this.#transact(() => {
      const timestampMark = toBase64(device.timestampMark);
      if (timestampMark !== this.#saved.timestampMark) this.#change({ timestampMark });
      for (const id of device.peerIds) {
        const status = device.status(id);
        const learned = status?.learnedEndpoint;
        if (learned === undefined || status?.lastHandshake === undefined) continue;
        const name = `${this.network}/${id}`;
        const saved = documents.get(PEER, name);
        if (saved?.address === learned.address && saved.port === learned.port) continue;
        documents.put(PEER, name, { ...learned });
      }
    });
    if (this.#book.valid(momentOf(this.#time)).length !== this.#valid) this.#reconcile();
  }

  // --- addresses

  /** Addresses for an attachment, written down with what `also` writes; another prefix is leased when they are used up. */
  allocate(
    owner: string,
    also: (addresses: readonly Address[]) => void,
    done: (outcome: Outcome<Address[]>) => void,
  ): void {
    const taken = this.#addresses.take(owner, this.#families, this.#excluded, also);
    if ('addresses' in taken) {
      done({ ok: true, answer: taken.addresses });
      return;
    }
    const { control, name, identity, enter } = this.#context;
    const family = taken.missing;
    const held = this.#saved.leases.filter(({ prefix }) => prefix.includes(':') === (family === 6)).length;
    // Named after what is held: asked again after a lost answer, the registry gives the same prefix.
    const requestId = `${family}-${held}`;
    control.call(
      name,
      `leases a prefix of ${this.network}`,
      (registry) => registry.leasePrefix(identity(), this.network, family, requestId),
      (outcome) =>
        enter(() =>
          orFail(done, () => {
            if (!outcome.ok) throw outcome.error;
            if (this.#isClosed) throw new Vl3Error('unavailable', 'the network was left');
            const { prefix, leasedAt } = outcome.answer;
            if (!this.#saved.leases.some((one) => one.prefix === prefix)) {
              this.#change({ leases: [...this.#saved.leases, { prefix, leasedAt }] });
              this.allocator.addPrefix(parsePrefix(prefix));
            }
            this.#reconcile();
            this.#announcements.recordMayChange();
            this.#announce();
            this.allocate(owner, also, done);
          }),
        ),
    );
  }

  free(owner: string, addresses: readonly string[], also: () => void): void {
    this.#addresses.free(owner, addresses.map(parseAddress), also);
  }

  /** After a start. */
  freeStrangers(): void {
    const known = new Set(this.attachments.map(({ id }) => id));
    this.#context.counters.add('stray allocations freed', this.#addresses.freeStrangers(known).length);
  }

  attachmentsChanged(): void {
    const isEmpty = this.attachments.length === 0;
    if (isEmpty !== this.#saved.emptySince > 0)
      this.#change({ emptySince: isEmpty ? this.#time.wallclock : 0 });
    this.#announcements.attachmentsChanged();
    this.#announce();
  }

  markLeaving(): void {
    this.#change({ isLeaving: true });
  }

  /** Takes the network off this node for good. */
  remove(): void {
    const { documents, kernel } = this.#context;
    this.close();
    kernel.removeRouter(this.network);
    documents.transact(() => {
      this.#book.clear();
      for (const { name } of documents.list(PEER))
        if (name.startsWith(`${this.network}/`)) documents.delete(PEER, name);
      documents.delete(NETWORK, this.network);
    });
  }

  // --- peers

  surroundingsChanged(): void {
    const { behindNat } = this.#context.surroundings();
    for (const peer of this.#peers.values()) {
      this.#configure(peer);
      const status = this.tunnel.device.status(idOf(peer));
      if (behindNat && status?.lastHandshake === undefined)
        this.tunnel.initiate(fromBase64(peer.publicKey), this.#time);
    }
    this.#announcements.recordMayChange();
    this.#announce();
  }

  #reconcile(): void {
    const { documents, name, surroundings } = this.#context;
    const records = this.#book.valid(momentOf(this.#time));
    this.#valid = records.length;
    const { peers } = desiredPeers(records, {
      node: name,
      publicKey: toBase64(this.tunnel.device.publicKey),
      claims: this.#saved.leases,
    });
    const first: DesiredPeer[] = [];
    for (const { kind, peer } of reconcilePeers(this.#peers, peers)) {
      if (kind === 'remove') {
        this.#peers.delete(peer.publicKey);
        this.tunnel.removePeer(fromBase64(peer.publicKey), this.#time);
        documents.delete(PEER, `${this.network}/${idOf(peer)}`);
      } else {
        this.#peers.set(peer.publicKey, peer);
        const isKnown = this.#configure(peer);
        if (kind === 'add' && (isKnown || surroundings().behindNat)) first.push(peer);
      }
    }
    for (const { publicKey } of first) this.tunnel.initiate(fromBase64(publicKey), this.#time);
  }

  /** True when there was a session with the peer before. */
  #configure(peer: DesiredPeer): boolean {
    const { documents, surroundings } = this.#context;
    const { behindNat, site } = surroundings();
    const learned = documents.get(PEER, `${this.network}/${idOf(peer)}`);
    this.tunnel.setPeer(
      {
        publicKey: fromBase64(peer.publicKey),
        allowedIps: peer.prefixes,
        endpoints: candidates(peer.endpoints, site),
        learnedEndpoint: learned,
        persistentKeepalive: behindNat ? NAT_KEEPALIVE_MS : 0,
      },
      this.#time,
    );
    return learned !== undefined;
  }

  // --- the registry

  #watch(): void {
    const { control, name, identity, enter } = this.#context;
    if (this.#isClosed) return;
    this.#stream = control.watch(name, identity(), this.network, this.#position, {
      onMessage: (message) =>
        enter(() => {
          this.#watchFailures = 0;
          if (attempt(() => this.#take(message)).ok) return;
          this.#stream?.close();
          this.#watchLater();
        }),
      onEnd: () => enter(() => this.#watchLater()),
    });
  }

  #watchLater(): void {
    if (this.#isClosed || !this.#context.hooks.watchesAgain) return;
    const delay = this.#backoff(this.#watchFailures++);
    this.#context.later(delay, `opens the watch of ${this.network}`, () => this.#watch());
  }

  #take({ storeId, revision, step }: WatchMessage): void {
    const before = this.#position;
    if (before !== undefined && (storeId !== before.storeId || revision < before.revision)) {
      this.#announcements.sayAgain();
      this.#announce();
    }
    if (step?.kind === 'snapshot' || step?.kind === 'delta') this.#takeStep(step);
    this.#position = { storeId, revision };
  }

  #takeStep({ network, nodes, tombstones }: Extract<NetworkStep, { kind: 'snapshot' | 'delta' }>): void {
    const now = momentOf(this.#time);
    if (network !== undefined) {
      if (network.uid !== this.#saved.uid)
        throw new Vl3Error('failed-precondition', `the registry has another network named ${this.network}`);
      if (network.excluded.join() !== this.#saved.excluded.join())
        this.#change({ excluded: network.excluded });
    }
    for (const { node, record, alive } of nodes) {
      this.#book.setAlive(node, alive);
      if (record === undefined) continue;
      const signed = {
        record: fromBase64(record.record),
        signature: fromBase64(record.signature),
        certificateChain: record.certificateChain.map(fromBase64),
      };
      this.#book.accept(node, signed, now);
    }
    for (const { node, recordSequence } of tombstones) this.#book.bury(node, recordSequence);
    this.#reconcile();
  }

  /** Says what is due, one thing after another; what failed is said again after a while. */
  #announce(): void {
    if (this.#isAnnouncing || this.#isClosed) return;
    const due = this.#announcements.next();
    if (due === undefined) return;
    this.#isAnnouncing = true;
    const { enter, later } = this.#context;
    const done = (outcome: Outcome<void>): void =>
      enter(() => {
        if (outcome.ok) {
          this.#announceFailures = 0;
          this.#isAnnouncing = false;
          this.#announcements.taken(due);
          this.#announce();
          return;
        }
        this.#announcements.failed(due);
        later(this.#backoff(this.#announceFailures++), `announces ${this.network} again`, () => {
          this.#isAnnouncing = false;
          this.#announce();
        });
      });
    orFail(done, () => this.#say(due, done));
  }

  #say(due: Due<Content>, done: (outcome: Outcome<void>) => void): void {
    const { control, name, identity, signer } = this.#context;
    if (due.kind === 'record') {
      const signed = signer.sign(identity(), { ...due.content, sequence: this.#nextSequence() });
      control.call(
        name,
        `announces its record on ${this.network}`,
        (registry) => registry.putRecord(identity(), this.network, signed),
        done,
      );
      return;
    }
    const attachments = this.attachments.map(({ id, workload, addresses, attachedAt }) => ({
      id,
      workload,
      addresses,
      attachedAt,
      interfaceName: 'vl3',
      labels: {},
    }));
    control.call(
      name,
      `announces ${attachments.length} attachments on ${this.network}`,
      (registry) => registry.putAttachments(identity(), this.network, attachments),
      done,
    );
  }

  #content(): Content {
    return {
      network: this.network,
      networkUid: this.#saved.uid,
      publicKey: toBase64(this.tunnel.device.publicKey),
      prefixes: this.#saved.leases,
      endpoints: this.#context.surroundings().endpoints,
    };
  }

  #nextSequence(): number {
    const last = Math.max(this.#saved.recordSequence, this.#book.ownSequence);
    const recordSequence = Math.max(last + 1, Math.floor(this.#time.wallclock));
    this.#change({ recordSequence });
    return recordSequence;
  }

  // --- parts

  /** All writes are kept, or none, and then nothing has changed here either. */
  #transact(work: () => void): void {
    const before = this.#saved;
    try {
      this.#context.documents.transact(work);
    } catch (error) {
      this.#saved = before;
      throw error;
    }
  }

  #change(change: Partial<SavedNetwork>): void {
    const saved = { ...this.#saved, ...change };
    this.#context.documents.put(NETWORK, this.network, saved);
    this.#saved = saved;
  }

  #backoff(failures: number): number {
    const bound = Math.min(BACKOFF_CAP_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failures, 30));
    return bound / 2 + this.#context.random.fraction() * (bound / 2);
  }

  get #excluded(): Prefix[] {
    return this.#saved.excluded.map(parsePrefix);
  }

  get #time(): Time {
    return this.#context.time();
  }
}

const idOf = (peer: DesiredPeer): string => peerId(fromBase64(peer.publicKey));
