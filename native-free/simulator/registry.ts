// The registry as a process on a machine of its own: the real rules over a durable store, and liveness leases. What
// the process knows beside its disk is gone when it dies; liveness leases then get their full term again. Not here: its
// watchers (registry-feed.ts), and the network between it and the nodes (control-plane.ts).

import { fromBase64, toBase64 } from '../base64.ts';
import { Vl3Error } from '../error.ts';
import { choosePrefix } from '../ipam/pool.ts';
import type { StorePosition } from '../reconcile/seen-store.ts';
import { adoptNode } from '../registry/adoption-rules.ts';
import { type AnnouncedAttachment, putAttachments, putRecord } from '../registry/announcement-rules.ts';
import { checkEnrollment, enroll } from '../registry/enrolment-rules.ts';
import { Hearing } from '../registry/hearing.ts';
import { below, keys, one } from '../registry/keys.ts';
import type { ChoosePrefix } from '../registry/lease-choice.ts';
import {
  joinNetwork,
  leasePrefix,
  leaveNetwork,
  type Membership,
  removeMember,
} from '../registry/lease-rules.ts';
import { type LeaseTerms, leaseTerms } from '../registry/lease-terms.ts';
import type { Lease } from '../registry/model.ts';
import { createNetwork, type NetworkRequest, updateNetwork } from '../registry/network-rules.ts';
import { checkIdentity, deleteNode, heartbeat, renew } from '../registry/node-rules.ts';
import { decodeVerified, type SignedRecord } from '../registry/record.ts';
import { recoveryOf, settle } from '../registry/recovery-rules.ts';
import type { Holding } from '../registry/renewal-rules.ts';
import { mustBeNetwork } from '../registry/rules.ts';
import { State } from '../registry/state.ts';
import { createToken } from '../registry/token-rules.ts';
import type { Range, ReadResult } from '../registry/transaction.ts';
import { RegistryView } from '../registry/view.ts';
import type { Disk } from './disk.ts';
import { DurableStore, type StoreObserver } from './durable-store.ts';
import type { Hooks } from './hooks.ts';
import { attempt } from './outcome.ts';
import type { Pace } from './pace.ts';
import type { Random } from './random.ts';
import { SimulatedFeed, type WatchSink } from './registry-feed.ts';
import { isRecovering, type RenewalAnswer, renewAll, testifyAll } from './registry-renewal.ts';
import { openStore, tick } from './registry-upkeep.ts';
import type { Scheduler } from './scheduler.ts';
import { type SimulatedIdentity, type SimulatedSigner, TRUST_DOMAIN } from './signer.ts';
import { SimulatedStamps } from './stamps.ts';

/** Of a join token. */
const TOKEN_TTL_MS = 7 * 24 * 60 * 60 * 1000;

export interface RegistryDependencies {
  readonly disk: Disk;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly signer: SimulatedSigner;
  /** Unix ms by this machine's clock. */
  readonly wall: () => number;
  readonly observer: StoreObserver & { readonly opened: (found: ReadResult) => void };
  /** Runs a timer's work as part of the process, so that it can die of it. */
  readonly enter: (work: () => void) => void;
  readonly hooks: Hooks;
  readonly pace: Pace;
  readonly outageBudgetMs: number;
  /** The CA is older than this start. */
  readonly hasCa: boolean;
}

export interface HeartbeatAnswer {
  readonly observedAddress: string;
  readonly storeId: string;
  readonly recovering: boolean;
  /** Of revision 0. */
  readonly stamp: Uint8Array;
}

export class RegistryProcess {
  readonly store: DurableStore;
  readonly #dependencies: RegistryDependencies;
  readonly #leases = new Map<string, number>();
  readonly #feed: SimulatedFeed;
  readonly #timer;
  readonly #clock;
  readonly #terms: LeaseTerms;
  readonly #hearing: Hearing;
  readonly #stamps: SimulatedStamps;
  #tickedAt: number;
  #granted = 0;

  constructor(dependencies: RegistryDependencies) {
    const { disk, scheduler, hooks, pace } = dependencies;
    this.#dependencies = dependencies;
    const terms = leaseTerms(dependencies.outageBudgetMs);
    this.#terms = { ...terms, tickMs: Math.max(terms.tickMs, pace.registryTickMs) };
    this.#tickedAt = scheduler.now;
    const identity = `store-${this.#hex(8)}`;
    this.store = new DurableStore({ identity, syncs: hooks.storeSyncs }, disk, {
      writing: (batch) => dependencies.observer.writing(batch),
      written: (batch) => this.#feed.changed(batch, (written) => dependencies.observer.written(written)),
    });
    dependencies.observer.opened(this.store.read([{ prefix: '/' }]));
    this.#stamps = new SimulatedStamps(Math.floor(scheduler.now * 1000).toString(16), this.store.identity);
    this.#feed = new SimulatedFeed({ store: this.store, stamps: this.#stamps, scheduler, pace });
    this.#hearing = new Hearing(this.#state(Hearing.reads), this.revision, scheduler.now + pace.hearingMs);
    openStore(this.store, dependencies.hasCa, hooks);
    const everything = this.store.read(RegistryView.reads);
    this.#feed.load(everything);
    for (const { lease } of everything.entries)
      if (lease !== undefined) this.#leases.set(lease, scheduler.now + pace.livenessTtlMs);
    this.#timer = scheduler.every(pace.registryCheckMs, pace.registryCheckMs, 'registry checks leases', () =>
      dependencies.enter(() => this.#check()),
    );
    const { tickMs } = this.#terms;
    this.#clock = scheduler.every(tickMs, tickMs, 'registry ticks', () =>
      dependencies.enter(() => {
        const passed = scheduler.now - this.#tickedAt;
        this.#tickedAt = scheduler.now;
        attempt(() => tick(this.store, this.#terms, passed, this.#now));
      }),
    );
  }

  get watchers(): number {
    return this.#feed.watchers;
  }

  get revision(): number {
    return this.store.keys.revision;
  }

  /** The process is gone; its watchers hear nothing more. */
  died(): void {
    this.#timer.cancel();
    this.#clock.cancel();
    this.#feed.died();
  }

  // --- what an admin does, and a node without an identity

  createNetwork(request: NetworkRequest): void {
    // One identity a name, so that a network that was lost and is made anew is the one that nodes hold.
    this.store.run(createNetwork(request, { now: this.#now, uid: `uid-of-${request.name}` }));
  }

  get isRecovering(): boolean {
    return isRecovering(this.store);
  }

  /** Who has said what it holds in the present recovery. */
  get reported(): ReadonlySet<string> {
    const reports = this.#state([{ prefix: below.reports }]).reports();
    return new Set(reports.flatMap(({ value }) => (value.reportedAt === undefined ? [] : [value.node])));
  }

  settle(): void {
    while (!this.store.run(settle(this.#now)).done);
  }

  /** Takes back nothing: excluded ranges get no new allocations. */
  exclude(network: string, excluded: readonly string[]): void {
    const { value, revision } = mustBeNetwork(this.#state([one(keys.network(network))]), network);
    const request = {
      name: network,
      uid: value.uid,
      revision,
      poolV4: '',
      poolV6: '',
      nodePrefixLengthV4: 0,
      nodePrefixLengthV6: 0,
      excluded,
      mtu: value.mtu,
    };
    this.store.run(updateNetwork(request));
  }

  deleteNode(node: string): void {
    this.#hearing.forget(node);
    for (const network of this.store.run(deleteNode(node, this.#now)))
      this.store.run(removeMember(network, node, this.#now));
  }

  createToken(secret: string, node: string): void {
    this.store.run(createToken({ hash: secret, node, ttlMs: TOKEN_TTL_MS }, this.#now));
  }

  /** The simulated CA signs. A token's secret is its own hash here. */
  enroll(node: string, secret: string, key: string): SimulatedIdentity {
    const request = { secretHash: secret, node, keyHash: key, spiffeId: `spiffe://x/node/${node}` };
    if (!this.#dependencies.hooks.usesTokensUp) this.createToken(secret, node);
    const before = this.store.run(checkEnrollment(request, this.#now));
    if (before !== undefined) return this.#given(before);
    const { chain, serial, notBefore, notAfter } = this.#issue(node);
    const svid = { certificate: { serial, notAfter }, notBefore, chain: chain.map(toBase64) };
    return this.#given(this.store.run(enroll({ ...request, svid }, this.#now)).chain);
  }

  /** What the registry answers, which is not always what it has just signed. */
  #given(chain: readonly string[]): SimulatedIdentity {
    return this.#dependencies.signer.read(chain.map(fromBase64));
  }

  #issue(node: string): SimulatedIdentity {
    return this.#dependencies.signer.issue(node, this.#now, this.#terms.termMs);
  }

  // --- what a node does for itself

  renewSvid(identity: SimulatedIdentity): SimulatedIdentity {
    const { node } = identity;
    this.#mustBe(identity);
    const renewed = this.#issue(node);
    this.store.run(renew(node, { serial: renewed.serial, notAfter: renewed.notAfter }, this.#now));
    return renewed;
  }

  renewLeases(
    identity: SimulatedIdentity,
    holdings: readonly Holding[],
    seen: StorePosition,
  ): RenewalAnswer & { readonly termMs: number } {
    this.#mustBe(identity);
    this.#hear(identity.node, seen);
    return { ...renewAll(this.store, identity.node, holdings, this.#now), termMs: this.#terms.termMs };
  }

  testify(identity: SimulatedIdentity, network: string, records: readonly SignedRecord[]): number {
    this.#mustBe(identity);
    const { verify } = this.#dependencies.signer;
    return testifyAll(this.store, identity.node, network, records, verify, this.#now);
  }

  heartbeat(identity: SimulatedIdentity, observedAddress: string, seen: StorePosition): HeartbeatAnswer {
    const { node } = identity;
    this.#mustBe(identity);
    this.#hear(node, seen);
    const stored = this.#state([one(keys.liveness(node))]).liveness(node)?.lease;
    const lease = stored !== undefined && this.#leases.has(stored) ? stored : this.#grant();
    this.#leases.set(lease, this.#dependencies.scheduler.now + this.#dependencies.pace.livenessTtlMs);
    this.store.run(heartbeat(node, lease, { agentVersion: 'simulated', observedAddress }, this.#now));
    const { identity: storeId } = this.store;
    return { observedAddress, storeId, recovering: this.isRecovering, stamp: this.#stamps.of(0) };
  }

  joinNetwork(identity: SimulatedIdentity, network: string): Membership & { readonly termMs: number } {
    this.#mustBe(identity);
    const membership = this.store.run(joinNetwork(network, identity.node, this.#now, this.#choosePrefix));
    return { ...membership, termMs: this.#terms.termMs };
  }

  leasePrefix(
    identity: SimulatedIdentity,
    network: string,
    family: number,
    requestId: string,
  ): { readonly lease: Lease; readonly termMs: number } {
    this.#mustBe(identity);
    const request = { network, node: identity.node, family, requestId };
    const lease = this.store.run(leasePrefix(request, this.#now, this.#choosePrefix));
    return { lease, termMs: this.#terms.termMs };
  }

  leaveNetwork(identity: SimulatedIdentity, network: string, joinedAt: number): void {
    this.#mustBe(identity);
    this.store.run(leaveNetwork(network, identity.node, this.#now, joinedAt));
  }

  putRecord(identity: SimulatedIdentity, network: string, signed: SignedRecord): void {
    this.#mustBe(identity);
    const { uid } = mustBeNetwork(this.#state([one(keys.network(network))]), network).value;
    const expected = { network, networkUid: uid, home: TRUST_DOMAIN };
    const decoded = decodeVerified(signed, this.#dependencies.signer.verify, this.#now, expected);
    if (decoded.kind === 'refused') throw new Vl3Error('permission-denied', `record: ${decoded.message}`);
    const { record } = decoded;
    if (record.node !== identity.node)
      throw new Vl3Error('permission-denied', `record: it is of node "${record.node}"`);
    const stored = {
      record: toBase64(signed.record),
      signature: toBase64(signed.signature),
      certificateChain: signed.certificateChain.map(toBase64),
      sequence: record.sequence,
      prefixes: record.prefixes,
      notAfter: record.notAfter,
    };
    this.store.run(putRecord(network, identity.node, stored));
  }

  putAttachments(
    identity: SimulatedIdentity,
    network: string,
    announced: readonly AnnouncedAttachment[],
  ): void {
    this.#mustBe(identity);
    let remaining = 1;
    while (remaining > 0)
      ({ remaining } = this.store.run(putAttachments(network, identity.node, announced, this.#now)));
  }

  /** Answers how to end it from the other side. Throws when the node may not watch. */
  watch(
    identity: SimulatedIdentity,
    network: string,
    position: StorePosition | undefined,
    sink: WatchSink,
  ): () => void {
    const { node } = identity;
    this.#mustBe(identity);
    // A watch that begins anew says nothing of what the node has seen.
    if (position !== undefined) this.#hear(node, position);
    const end = this.#feed.watch(network, node, position, sink);
    return () => {
      end();
      if (this.#dependencies.hooks.streamFreesPrefixes) this.#freeSoon(node, network);
    };
  }

  /** A node says what it has seen; a store that cannot be it has lost memory. */
  #hear(node: string, told: StorePosition): void {
    const { identity } = this.store;
    const rule = this.#hearing.rule(node, told, { identity, revision: this.revision, stamps: this.#stamps });
    if (rule !== undefined) this.store.run(rule);
    this.#hearing.forget(node);
  }

  // --- liveness

  #grant(): string {
    return `${this.#dependencies.scheduler.now}-${++this.#granted}`;
  }

  #check(): void {
    const { now } = this.#dependencies.scheduler;
    const ended = [...this.#leases].filter(([, deadline]) => deadline <= now).map(([lease]) => lease);
    for (const lease of ended) this.#leases.delete(lease);
    try {
      if (ended.length > 0) this.store.commit(this.store.keys.prepareEnd(ended));
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      for (const lease of ended) this.#leases.set(lease, now);
    }
    this.#feed.breathe();
  }

  /** A planted bug, and what Network Service Mesh does. */
  #freeSoon(node: string, network: string): void {
    const { scheduler, enter } = this.#dependencies;
    scheduler.after(50, `registry frees what ${node} had of ${network}`, () =>
      enter(() => attempt(() => this.store.run(leaveNetwork(network, node, this.#now)))),
    );
  }

  // --- parts

  /** Called only when something new is issued. */
  readonly #choosePrefix: ChoosePrefix = (request) => {
    if (this.#dependencies.hooks.recovers) this.#hearing.mustIssue(this.#dependencies.scheduler.now);
    return choosePrefix(request);
  };

  /** As mutual TLS and access.ts have it. */
  #mustBe({ node, serial, notBefore, notAfter }: SimulatedIdentity): void {
    if (this.#now < notBefore || this.#now >= notAfter)
      throw new Vl3Error('unauthenticated', `the SVID of node "${node}" does not hold now`);
    const rule = checkIdentity(node, serial);
    const ranges = [...rule.reads, one(keys.domain)];
    const state = this.#state(ranges);
    if (state.node(node) === undefined && recoveryOf(state) !== undefined) {
      const certificate = { serial, notAfter };
      this.store.run(adoptNode(node, `spiffe://x/node/${node}`, certificate, this.#now));
      return;
    }
    rule.decide(state);
  }

  #state(ranges: readonly Range[]): State {
    return new State(ranges, this.store.read(ranges));
  }

  get #now(): number {
    return this.#dependencies.wall();
  }

  #hex(digits: number): string {
    const bytes = this.#dependencies.random.bytes(digits / 2);
    return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  }
}
