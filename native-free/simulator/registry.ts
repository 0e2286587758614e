// The registry as a process on a machine of its own: the real rules over a durable store. What the process knows beside its
// disk is gone when it dies. Not here: its watchers (registry-feed.ts), admission, partners and liveness (registry-*.ts), and
// the network between it and the nodes (control-plane.ts). Long, since it has a method for each call.

import { fromBase64, toBase64 } from '../base64.ts';
import { Vl3Error } from '../error.ts';
import { choosePrefix } from '../ipam/pool.ts';
import type { StorePosition } from '../reconcile/seen-store.ts';
import type { Refusal } from '../registry/admission-decisions.ts';
import { adoptNode } from '../registry/adoption-rules.ts';
import { type AnnouncedAttachment, putAttachments, putRecord } from '../registry/announcement-rules.ts';
import { checkEnrollment, enroll } from '../registry/enrolment-rules.ts';
import { foreignDomainOf, nodeNameOf } from '../registry/foreign-key.ts';
import { Hearing } from '../registry/hearing.ts';
import { below, identityKey, keys, one } from '../registry/keys.ts';
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
import { nodeKey } from '../registry/node-key.ts';
import { checkIdentity, deleteNode, renew } from '../registry/node-rules.ts';
import { decodeVerified, type SignedRecord } from '../registry/record.ts';
import { recoveryOf, settle } from '../registry/recovery-rules.ts';
import type { Holding } from '../registry/renewal-rules.ts';
import { mustBeMember, mustBeNetwork } from '../registry/rules.ts';
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
import { RegistryAdmission } from './registry-admission.ts';
import { SimulatedFeed, type WatchSink } from './registry-feed.ts';
import { RegistryLiveness } from './registry-liveness.ts';
import { RegistryPartners } from './registry-partners.ts';
import { isRecovering, type RenewalAnswer, renewAll, testifyAll } from './registry-renewal.ts';
import { RegistryTrust } from './registry-trust.ts';
import { openStore, tick } from './registry-upkeep.ts';
import type { Scheduler } from './scheduler.ts';
import { readIdentity, type SimulatedIdentity, type SimulatedSigner } from './signer.ts';
import { SimulatedStamps } from './stamps.ts';
import type { Federations } from './trust.ts';

/** As src/registry/admission-keeper.ts has it. */
const ROUNDS_A_TERM = 28;
const LEAST_ROUND_MS = 1000;
/** Of a join token. */
const TOKEN_TTL_MS = 7 * 24 * 60 * 60 * 1000;

export interface RegistryDependencies {
  readonly disk: Disk;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly signer: SimulatedSigner;
  /** Of all domains: who has signed what is known by their secrets alone. */
  readonly signers: ReadonlyMap<string, SimulatedSigner>;
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
  /** Undefined: the node is of another domain. */
  readonly federations: Federations | undefined;
}

export class RegistryProcess {
  readonly store: DurableStore;
  readonly admission: RegistryAdmission;
  readonly partners: RegistryPartners;
  readonly #dependencies: RegistryDependencies;
  readonly #liveness: RegistryLiveness;
  readonly #feed: SimulatedFeed;
  readonly #timer;
  readonly #clock;
  readonly #rounds;
  readonly #terms: LeaseTerms;
  readonly #hearing: Hearing;
  readonly #stamps: SimulatedStamps;
  readonly #trust: RegistryTrust;
  #tickedAt: number;

  constructor(dependencies: RegistryDependencies) {
    const { disk, scheduler, hooks, pace } = dependencies;
    this.#dependencies = dependencies;
    const terms = leaseTerms(dependencies.outageBudgetMs);
    this.#terms = { ...terms, tickMs: Math.max(terms.tickMs, pace.registryTickMs) };
    this.#tickedAt = scheduler.now;
    const identity = `store-${this.#hex(8)}`;
    this.store = new DurableStore({ identity, syncs: hooks.storeSyncs }, disk, {
      writing: (batch) => dependencies.observer.writing(batch),
      written: (batch) => {
        this.#feed.changed(batch, (written) => dependencies.observer.written(written));
        this.admission.written(batch);
      },
    });
    const now = (): number => this.#now;
    const parts = { ...dependencies, store: this.store, now };
    this.admission = new RegistryAdmission({ ...parts, termMs: terms.termMs });
    this.partners = new RegistryPartners(parts);
    this.#trust = new RegistryTrust({ ...dependencies, partners: this.partners });
    dependencies.observer.opened(this.store.read([{ prefix: '/' }]));
    this.#stamps = new SimulatedStamps(Math.floor(scheduler.now * 1000).toString(16), this.store.identity);
    this.#feed = new SimulatedFeed({ store: this.store, stamps: this.#stamps, scheduler, pace });
    this.#hearing = new Hearing(this.#state(Hearing.reads), this.revision, scheduler.now + pace.hearingMs);
    openStore(this.store, dependencies.hasCa, hooks);
    const everything = this.store.read(RegistryView.reads);
    this.#feed.load(everything);
    this.#liveness = new RegistryLiveness({ ...parts, ttlMs: pace.livenessTtlMs });
    this.#liveness.load(everything);
    this.#timer = scheduler.every(pace.registryCheckMs, pace.registryCheckMs, 'registry checks leases', () =>
      dependencies.enter(() => {
        this.#liveness.check();
        this.#feed.breathe();
      }),
    );
    const { tickMs, termMs } = this.#terms;
    const roundMs = Math.max(LEAST_ROUND_MS, termMs / ROUNDS_A_TERM);
    this.#rounds = scheduler.every(roundMs, roundMs, 'registry looks at admission', () =>
      this.admission.lookAround(),
    );
    this.#clock = scheduler.every(tickMs, tickMs, 'registry ticks', () =>
      dependencies.enter(() => {
        const passed = scheduler.now - this.#tickedAt;
        this.#tickedAt = scheduler.now;
        attempt(() => tick(this.store, this.#terms, passed, this.#now));
      }),
    );
    this.admission.lookAround();
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
    this.#rounds.cancel();
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
    return readIdentity(chain.map(fromBase64));
  }

  #issue(node: string): SimulatedIdentity {
    return this.#dependencies.signer.issue(node, this.#now, this.#terms.termMs);
  }

  // --- what a node does for itself

  renewSvid(identity: SimulatedIdentity): SimulatedIdentity {
    const node = this.#mustBe(identity);
    const renewed = this.#issue(node);
    this.store.run(renew(node, { serial: renewed.serial, notAfter: renewed.notAfter }, this.#now));
    return renewed;
  }

  renewLeases(
    identity: SimulatedIdentity,
    holdings: readonly Holding[],
    seen: StorePosition,
  ): RenewalAnswer & { readonly termMs: number } {
    const node = this.#mustBe(identity);
    this.#hear(node, seen);
    return { ...renewAll(this.store, node, holdings, this.#now), termMs: this.#terms.termMs };
  }

  testify(identity: SimulatedIdentity, network: string, records: readonly SignedRecord[]): number {
    const node = this.#mustBe(identity);
    return testifyAll(this.store, node, network, records, this.#trust.verifierOf(node), this.#now);
  }

  heartbeat(identity: SimulatedIdentity, observedAddress: string, seen: StorePosition): HeartbeatAnswer {
    const node = this.#mustBe(identity);
    this.#hear(node, seen);
    const isForeign = foreignDomainOf(node) !== undefined;
    if (!isForeign || this.#feed.isOnAnyNetwork(node)) this.#liveness.beat(node, observedAddress);
    const { identity: storeId } = this.store;
    const federations = isForeign ? undefined : this.partners.federations;
    return {
      observedAddress,
      storeId,
      recovering: this.isRecovering,
      stamp: this.#stamps.of(0),
      federations,
    };
  }

  joinNetwork(identity: SimulatedIdentity, network: string): Membership & { readonly termMs: number } {
    const node = this.#mustBe(identity);
    const membership = this.store.run(joinNetwork(network, node, this.#now, this.#choosePrefix));
    return { ...membership, termMs: this.#terms.termMs };
  }

  leasePrefix(
    identity: SimulatedIdentity,
    network: string,
    family: number,
    requestId: string,
  ): { readonly lease: Lease; readonly termMs: number } {
    const request = { network, node: this.#mustBe(identity), family, requestId };
    const lease = this.store.run(leasePrefix(request, this.#now, this.#choosePrefix));
    return { lease, termMs: this.#terms.termMs };
  }

  leaveNetwork(identity: SimulatedIdentity, network: string, joinedAt: number): void {
    this.store.run(leaveNetwork(network, this.#mustBe(identity), this.#now, joinedAt));
  }

  putRecord(identity: SimulatedIdentity, network: string, signed: SignedRecord): void {
    const node = this.#mustBe(identity);
    const state = this.#state(
      [keys.network(network), keys.member(network, node), identityKey(node)].map(one),
    );
    if (foreignDomainOf(node) !== undefined) mustBeMember(state, network, node);
    const { uid } = mustBeNetwork(state, network).value;
    const expected = { network, networkUid: uid, home: this.#dependencies.signer.trustDomain };
    const decoded = decodeVerified(signed, this.#trust.verifierOf(node), this.#now, expected);
    if (decoded.kind === 'refused') throw new Vl3Error('permission-denied', `record: ${decoded.message}`);
    const { record } = decoded;
    if (record.node !== nodeNameOf(node).node)
      throw new Vl3Error('permission-denied', `record: it is of node "${record.node}"`);
    const stored = {
      record: toBase64(signed.record),
      signature: toBase64(signed.signature),
      certificateChain: signed.certificateChain.map(toBase64),
      sequence: record.sequence,
      prefixes: record.prefixes,
      notAfter: record.notAfter,
    };
    this.store.run(putRecord(network, node, stored));
  }

  putAttachments(
    identity: SimulatedIdentity,
    network: string,
    announced: readonly AnnouncedAttachment[],
  ): readonly Refusal[] {
    const node = this.#mustBe(identity);
    const { trustDomain } = this.#dependencies.signer;
    for (;;) {
      const rule = putAttachments(network, node, announced, this.#now, trustDomain);
      const { remaining, refused } = this.store.run(rule);
      if (remaining === 0) return refused;
    }
  }

  /** Answers how to end it from the other side. Throws when the node may not watch. */
  watch(
    identity: SimulatedIdentity,
    network: string,
    position: StorePosition | undefined,
    sink: WatchSink,
  ): () => void {
    const node = this.#mustBe(identity);
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

  /** As mutual TLS and access.ts have it. Answers what the store calls the node. */
  #mustBe(identity: SimulatedIdentity): string {
    const { node, trustDomain, serial, notBefore, notAfter } = identity;
    if (this.#now < notBefore || this.#now >= notAfter)
      throw new Vl3Error('unauthenticated', `the SVID of node "${node}" does not hold now`);
    this.#trust.mustVerify(identity, this.isRecovering);
    const key = nodeKey(this.#dependencies.signer.trustDomain, { node, trustDomain });
    if (foreignDomainOf(key) !== undefined) return key;
    const rule = checkIdentity(node, serial);
    const ranges = [...rule.reads, one(keys.domain)];
    const state = this.#state(ranges);
    if (state.node(node) === undefined && recoveryOf(state) !== undefined) {
      const certificate = { serial, notAfter };
      this.store.run(adoptNode(node, `spiffe://x/node/${node}`, certificate, this.#now));
    } else rule.decide(state);
    return key;
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
