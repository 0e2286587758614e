// One network on a simulated node, put together from its parts: a tunnel, the addresses the node hands out, the records
// it believes, its peers, and what it announces. The order of writes and calls is that of src/agent/membership.ts;
// decisions are the same functions. Ends with its agent's process.

import { GrantBook } from '../admission/grant-book.ts';
import { fromBase64, toBase64 } from '../base64.ts';
import { Tunnel } from '../device/tunnel.ts';
import { Vl3Error } from '../error.ts';
import { type Allocator, allocatorStateSchema } from '../ipam/allocator.ts';
import { NodeAddresses } from '../ipam/node-addresses.ts';
import { type Address, type Family, parseAddress, parsePrefix } from '../ipam/prefix.ts';
import type { Moment } from '../moment.ts';
import { NETWORK } from '../reconcile/documents.ts';
import { savedGrants } from '../reconcile/saved-grants.ts';
import { SavedNetwork } from '../reconcile/saved-network.ts';
import type { StorePosition } from '../reconcile/seen-store.ts';
import type { Ruleset } from '../registry/admission-model.ts';
import type { SignedRecord } from '../registry/record.ts';
import { RecordBook } from '../registry/record-book.ts';
import type { NetworkStep } from '../registry/view.ts';
import type { AgentContext } from './agent-context.ts';
import { SimulatedAnnouncer } from './announcer.ts';
import { ATTACHMENT, type SavedAttachment } from './documents.ts';
import { type Outcome, orFail } from './outcome.ts';
import { SimulatedPeers } from './peers.ts';
import type { WatchMessage } from './registry-feed.ts';
import { savedRecords } from './saved-records.ts';
import { TRUST_DOMAIN } from './signer.ts';
import { SimulatedVerdicts } from './verdicts.ts';
import { SimulatedWatcher } from './watcher.ts';

export class SimulatedMembership {
  readonly network: string;
  readonly tunnel: Tunnel;
  readonly allocator: Allocator;
  readonly #context: AgentContext;
  readonly saved: SavedNetwork;
  readonly #addresses: NodeAddresses;
  readonly #families: Family[];
  readonly #book: RecordBook;
  readonly #grants: GrantBook;
  readonly verdicts: SimulatedVerdicts;
  readonly #peers: SimulatedPeers;
  readonly #announcer: SimulatedAnnouncer;
  readonly #watcher: SimulatedWatcher;
  #position: StorePosition | undefined;
  #mustRelist = false;
  #isClosed = false;

  /** Opens the network from its document. */
  constructor(network: string, context: AgentContext) {
    const { documents, hooks, key, trust } = context;
    this.network = network;
    this.#context = context;
    const saved = new SavedNetwork(network, documents);
    this.saved = saved;
    this.#families = saved.pools.map(({ family }) => family);
    this.allocator = hooks.allocator(allocatorStateSchema.parse(saved.document.allocator));
    for (const prefix of saved.prefixes) this.allocator.addPrefix(prefix);
    this.#addresses = new NodeAddresses({
      allocator: this.allocator,
      save: (allocator) => saved.change({ allocator }),
      transact: (change) => saved.transact(change),
    });
    this.#book = new RecordBook(
      { network, networkUid: saved.document.uid, home: TRUST_DOMAIN, pools: saved.pools, node: key },
      {
        saved: savedRecords(documents, network),
        verifierOf: trust.verifierOf,
        report: (what) => context.counters.add(`records ${what}`),
      },
      context.hooks.recordMoment(context.moment()),
    );
    this.#grants = new GrantBook(
      { network, networkUid: saved.document.uid, home: TRUST_DOMAIN },
      {
        saved: savedGrants(documents, network),
        verify: trust.verifyGrantOf(TRUST_DOMAIN),
        report: () => context.counters.add('grants refused'),
      },
      context.hooks.recordMoment(context.moment()),
    );
    this.verdicts = new SimulatedVerdicts({
      isRestricted: () => this.isRestricted && !context.isRogue,
      ask: () => this.#announcer.attachmentsChanged(),
      later: context.later,
      onRefused: (id) => {
        if (!context.isRogue) context.refused(id);
      },
    });
    this.tunnel = this.#openTunnel();
    const parts = { context, saved, tunnel: this.tunnel, book: this.#book, grants: this.#grants };
    this.#peers = new SimulatedPeers(parts);
    this.#announcer = new SimulatedAnnouncer({
      ...parts,
      attachments: () => this.attachments,
      onDecided: (asked, refused) => this.verdicts.decided(asked, refused),
    });
    const watch = {
      network,
      position: () => this.#position,
      onMessage: (message: WatchMessage) => this.#take(message),
      onNoMember: () => {
        if (context.trustDomain !== TRUST_DOMAIN) context.renewLeases();
      },
    };
    this.#watcher = new SimulatedWatcher(watch, context);
  }

  #openTunnel(): Tunnel {
    const { kernel, hooks, primitives, port, internet, name, randomBytes, mtu } = this.#context;
    const { privateKey, timestampMark } = this.saved.document;
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

  /** Another domain's network admits by rules alone. */
  get isRestricted(): boolean {
    return this.#context.trustDomain !== TRUST_DOMAIN || this.saved.document.isRestricted;
  }

  get isLeaving(): boolean {
    return this.saved.document.isLeaving;
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
    this.saved.transact(() => {
      const timestampMark = toBase64(this.tunnel.device.timestampMark);
      if (timestampMark !== this.saved.document.timestampMark) this.saved.change({ timestampMark });
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

  /** Other CAs speak for a domain, or none any more. */
  trustChanged(domain: string): void {
    const isChanged = this.#book.trustChanged(domain, this.#recordMoment);
    if ((domain === TRUST_DOMAIN && this.#grants.trustChanged()) || isChanged) this.#peers.reconcile();
  }

  /** The registry answers again, after it did not. */
  registryIsBack(): void {
    this.#announcer.registryIsBack();
    this.#watcher.registryIsBack();
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
    else if (this.#book.listing.decided(storeId, askedAt)) this.#peers.reconcile();
  }

  /** Records of others that the registry does not know, once it has said what it knows in this store. */
  testimony(storeId: string): SignedRecord[] {
    if (this.#mustRelist || this.#position?.storeId !== storeId) return [];
    return this.#book.testimony(this.#recordMoment);
  }

  /** What this node leases has begun or ceased to be its own. */
  claimsChanged(): void {
    this.#peers.reconcile();
    this.#announcer.recordMayChange();
  }

  /** Forgets a prefix from which nothing is attached any more; false while something is. */
  dropLease(prefix: string): boolean {
    const isGone = this.#addresses.removePrefix(parsePrefix(prefix), () => this.saved.forgetLease(prefix));
    if (isGone) this.claimsChanged();
    return isGone;
  }

  /** Writes down whether anything is attached: an agent that died as the last attachment went has not. */
  noteUse(): void {
    this.saved.used(this.attachments.length === 0, this.#context.time().wallclock);
  }

  attachmentsChanged(): void {
    this.noteUse();
    this.#announcer.attachmentsChanged();
  }

  markLeaving(): void {
    this.saved.change({ isLeaving: true });
  }

  /** Takes the network off this node for good. */
  remove(): void {
    const { documents, kernel } = this.#context;
    this.close();
    kernel.removeRouter(this.network);
    documents.transact(() => {
      this.#book.clear();
      this.#grants.clear();
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
    const closing = this.saved.closing(this.#context.leaseMoment());
    const taken = this.#addresses.take(owner, this.#families, [...this.saved.excluded, ...closing], also);
    if ('addresses' in taken) {
      done({ ok: true, answer: taken.addresses });
      return;
    }
    this.#context.calls.run((finish) => {
      const leased = (outcome: Outcome<void>): void => {
        finish();
        if (outcome.ok) this.allocate(owner, also, done);
        else done(outcome);
      };
      orFail(leased, () => this.#lease(taken.missing, leased));
    });
  }

  #lease(family: Family, done: (outcome: Outcome<void>) => void): void {
    const { control, name, identity, enter, leaseMoment, hooks, randomBytes } = this.#context;
    const requestId = this.saved.requestId(family, () => randomBytes(8).join('.'));
    const sent = leaseMoment();
    control.call(
      name,
      `leases a prefix of ${this.network}`,
      (registry) => registry.leasePrefix(identity(), this.network, family, requestId),
      (outcome) =>
        enter(() =>
          orFail(done, () => {
            if (!outcome.ok) throw outcome.error;
            if (this.#isClosed) throw new Vl3Error('unavailable', 'the network was left');
            const { lease, termMs } = outcome.answer;
            const term = { termMs, since: hooks.leasesFromAnswer ? leaseMoment() : sent };
            const { prefix, leasedAt } = lease;
            this.#addresses.addPrefix(parsePrefix(prefix), () =>
              this.saved.leased({ prefix, leasedAt, term }, family),
            );
            this.claimsChanged();
            done({ ok: true, answer: undefined });
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

  #take({ storeId, revision, stamp, step }: WatchMessage): void {
    if (this.#mustRelist && step?.kind !== 'snapshot') {
      this.#mustRelist = false;
      this.#position = undefined;
      throw new Vl3Error('aborted', 'the registry lost its memory: what it knows is read anew');
    }
    this.#mustRelist = false;
    const before = this.#position;
    const wentBack = before?.storeId === storeId && revision < before.revision;
    const isOther = this.#context.seen.watched({ storeId, revision, stamp }, wentBack);
    if (wentBack || isOther) this.#context.storeReplaced();
    if (step?.kind === 'snapshot') this.#book.listing.begin(storeId, this.#context.moment().boot);
    if (step?.kind === 'snapshot' || step?.kind === 'delta') this.#takeStep(step);
    this.#position = { storeId, revision, stamp };
  }

  #takeStep({
    kind,
    network,
    ruleset,
    nodes,
    tombstones,
  }: Extract<NetworkStep, { kind: 'snapshot' | 'delta' }>): void {
    const now = this.#recordMoment;
    if (network !== undefined) {
      if (network.uid !== this.saved.document.uid)
        throw new Vl3Error('failed-precondition', `the registry has another network named ${this.network}`);
      this.#applyRules(ruleset);
      this.saved.redefine(network);
    }
    for (const { node, record, alive, grant } of nodes) {
      this.#book.setAlive(node, alive);
      if (record !== undefined) this.#book.accept(node, signedOf(record.record, record), now);
      if (grant !== undefined) this.#grants.accept(node, signedOf(grant.grant, grant), now);
    }
    if (kind === 'snapshot' && this.#context.hooks.absenceDeletes)
      for (const { node } of this.#book.valid(now))
        if (!nodes.some((one) => one.node === node)) this.#book.bury(node, Number.MAX_SAFE_INTEGER);
    for (const { node, recordSequence } of tombstones) this.#book.bury(node, recordSequence);
    this.#peers.reconcile();
  }

  /** Whoever is refused by them is told so in the answer to what is announced. */
  #applyRules(ruleset: Ruleset | undefined): void {
    const isRestricted = ruleset?.isOpen === false && ruleset.isInForce === true;
    const rulesetVersion = ruleset?.version ?? 0;
    const { document } = this.saved;
    if (document.isRestricted === isRestricted && document.rulesetVersion === rulesetVersion) return;
    this.saved.change({ isRestricted, rulesetVersion });
    this.#announcer.attachmentsChanged();
  }

  get #recordMoment(): Moment {
    return this.#context.hooks.recordMoment(this.#context.moment());
  }
}

const signedOf = (
  bytes: string,
  {
    signature,
    certificateChain,
  }: { readonly signature: string; readonly certificateChain: readonly string[] },
): SignedRecord => ({
  record: fromBase64(bytes),
  signature: fromBase64(signature),
  certificateChain: certificateChain.map(fromBase64),
});
