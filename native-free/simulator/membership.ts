// One network on a simulated node, put together from its parts: a tunnel, the addresses the node hands out, the records
// it believes, its peers, and what it announces. The order of writes and calls is that of src/agent/membership.ts;
// decisions are the same functions. Ends with its agent's process.

import { Tunnel } from '../device/tunnel.ts';
import { Vl3Error } from '../error.ts';
import { type Allocator, allocatorStateSchema } from '../ipam/allocator.ts';
import { NodeAddresses } from '../ipam/node-addresses.ts';
import { type Address, type Family, parseAddress, parsePrefix } from '../ipam/prefix.ts';
import { RecordBook } from '../registry/record-book.ts';
import type { NetworkStep } from '../registry/view.ts';
import type { AgentContext } from './agent.ts';
import { SimulatedAnnouncer } from './announcer.ts';
import { fromBase64, toBase64 } from './base64.ts';
import { ATTACHMENT, NETWORK, type SavedAttachment, type SavedNetwork } from './documents.ts';
import { type Outcome, orFail } from './outcome.ts';
import { SimulatedPeers } from './peers.ts';
import type { WatchMessage, WatchPosition } from './registry.ts';
import { SharedNetwork } from './saved-network.ts';
import { savedRecords } from './saved-records.ts';
import { SimulatedWatcher } from './watcher.ts';

export class SimulatedMembership {
  readonly network: string;
  readonly tunnel: Tunnel;
  readonly allocator: Allocator;
  readonly #context: AgentContext;
  readonly #saved: SharedNetwork;
  readonly #addresses: NodeAddresses;
  readonly #families: Family[];
  readonly #book: RecordBook;
  readonly #peers: SimulatedPeers;
  readonly #announcer: SimulatedAnnouncer;
  readonly #watcher: SimulatedWatcher;
  #position: WatchPosition | undefined;
  #isClosed = false;

  /** Opens the network from its document. */
  constructor(network: string, context: AgentContext) {
    const { documents, hooks, name, signer } = context;
    this.network = network;
    this.#context = context;
    const saved = new SharedNetwork(network, documents);
    this.#saved = saved;
    this.#families = saved.pools.map(({ family }) => family);
    this.allocator = hooks.allocator(allocatorStateSchema.parse(saved.document.allocator));
    for (const { prefix } of saved.document.leases) this.allocator.addPrefix(parsePrefix(prefix));
    this.#addresses = new NodeAddresses({
      allocator: this.allocator,
      save: (allocator) => saved.change({ allocator }),
      transact: (change) => saved.transact(change),
    });
    this.#book = new RecordBook(
      { network, networkUid: saved.document.uid, pools: saved.pools, node: name },
      {
        saved: savedRecords(documents, network),
        verify: signer.verify,
        report: (what) => context.counters.add(`records ${what}`),
      },
      context.moment(),
    );
    this.tunnel = this.#openTunnel();
    const parts = { context, saved, tunnel: this.tunnel, book: this.#book };
    this.#peers = new SimulatedPeers(parts);
    this.#announcer = new SimulatedAnnouncer({ ...parts, attachments: () => this.attachments });
    const watch = {
      network,
      position: () => this.#position,
      onMessage: (message: WatchMessage) => this.#take(message),
    };
    this.#watcher = new SimulatedWatcher(watch, context);
  }

  #openTunnel(): Tunnel {
    const { kernel, hooks, primitives, port, internet, name, randomBytes, mtu } = this.#context;
    const { privateKey, timestampMark } = this.#saved.document;
    return new Tunnel(
      { privateKey: fromBase64(privateKey), timestampMark: fromBase64(timestampMark), mtu },
      {
        primitives,
        random: randomBytes,
        port,
        inside: { deliver: (packet) => kernel.toPod(hooks.networkOf(this.network), packet) },
        outside: { send: (datagram, endpoint) => internet.send(name, datagram, endpoint) },
      },
    );
  }

  start(): void {
    this.#peers.reconcile();
    this.#watcher.open();
    this.#announcer.announce();
  }

  /** Lets go; what the kernel and the disk have stays. */
  close(): void {
    this.#isClosed = true;
    this.#watcher.close();
    this.#announcer.close();
    this.tunnel.close(this.#context.time());
  }

  // --- what can be known

  get saved(): SavedNetwork {
    return this.#saved.document;
  }

  get attachments(): SavedAttachment[] {
    return this.#context.documents
      .list(ATTACHMENT)
      .map(({ value }) => value)
      .filter(({ network }) => network === this.network);
  }

  get peers(): SimulatedPeers['all'] {
    return this.#peers.all;
  }

  // --- what happens

  /** Writes down what a restart needs: learned endpoints and the handshake timestamps' mark. */
  checkpoint(): void {
    this.#saved.transact(() => {
      const timestampMark = toBase64(this.tunnel.device.timestampMark);
      if (timestampMark !== this.#saved.document.timestampMark) this.#saved.change({ timestampMark });
      this.#peers.checkpoint();
    });
    this.#peers.expire();
  }

  surroundingsChanged(): void {
    this.#peers.surroundingsChanged();
    this.#announcer.recordMayChange();
  }

  /** The node's SVID was renewed: what it signed is signed anew. */
  identityRenewed(): void {
    this.#announcer.recordMayChange();
  }

  attachmentsChanged(): void {
    const isEmpty = this.attachments.length === 0;
    if (isEmpty !== this.#saved.document.emptySince > 0)
      this.#saved.change({ emptySince: isEmpty ? this.#context.time().wallclock : 0 });
    this.#announcer.attachmentsChanged();
  }

  markLeaving(): void {
    this.#saved.change({ isLeaving: true });
  }

  /** Takes the network off this node for good. */
  remove(): void {
    const { documents, kernel } = this.#context;
    this.close();
    kernel.removeRouter(this.network);
    documents.transact(() => {
      this.#book.clear();
      this.#peers.forget();
      documents.delete(NETWORK, this.network);
    });
  }

  // --- addresses

  /** Addresses for an attachment, written down with what `also` writes; another prefix is leased when they are used up. */
  allocate(
    owner: string,
    also: (addresses: readonly Address[]) => void,
    done: (outcome: Outcome<Address[]>) => void,
  ): void {
    const taken = this.#addresses.take(owner, this.#families, this.#saved.excluded, also);
    if ('addresses' in taken) {
      done({ ok: true, answer: taken.addresses });
      return;
    }
    const { control, name, identity, enter } = this.#context;
    const family = taken.missing;
    const held = this.saved.leases.filter(({ prefix }) => prefix.includes(':') === (family === 6)).length;
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
            if (!this.saved.leases.some((one) => one.prefix === prefix)) {
              this.#saved.change({ leases: [...this.saved.leases, { prefix, leasedAt }] });
              this.allocator.addPrefix(parsePrefix(prefix));
            }
            this.#peers.reconcile();
            this.#announcer.recordMayChange();
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

  // --- the registry

  #take({ storeId, revision, step }: WatchMessage): void {
    const before = this.#position;
    if (before !== undefined && (storeId !== before.storeId || revision < before.revision))
      this.#announcer.sayAgain();
    if (step?.kind === 'snapshot') this.#book.beginListing();
    if (step?.kind === 'snapshot' || step?.kind === 'delta') this.#takeStep(step);
    this.#position = { storeId, revision };
  }

  #takeStep({ network, nodes, tombstones }: Extract<NetworkStep, { kind: 'snapshot' | 'delta' }>): void {
    const now = this.#context.moment();
    if (network !== undefined) {
      if (network.uid !== this.saved.uid)
        throw new Vl3Error('failed-precondition', `the registry has another network named ${this.network}`);
      if (network.excluded.join() !== this.saved.excluded.join())
        this.#saved.change({ excluded: network.excluded });
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
    this.#peers.reconcile();
  }
}
