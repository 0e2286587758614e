// An agent's process on a simulated machine: it enrols, heartbeats, renews its SVID, joins and leaves networks, attaches
// and detaches pods, and after a start takes up what its disk and its kernel hold. The order of writes and effects is
// that of src/agent. It may die at any write.

import { fromBase64, toBase64 } from '../base64.ts';
import type { Endpoint } from '../device/data-plane.ts';
import { NotEnrolled, Vl3Error } from '../error.ts';
import { LeaseCalls } from '../ipam/lease-calls.ts';
import type { Moment } from '../moment.ts';
import { type Announcement, announce } from '../reconcile/endpoints.ts';
import { SeenStore, type StorePosition } from '../reconcile/seen-store.ts';
import { SvidTerm } from '../reconcile/svid-term.ts';
import { nodeKey } from '../registry/node-key.ts';
import type { AgentContext, AgentDependencies } from './agent-context.ts';
import { type AttachRequest, SimulatedAttachments } from './attachments.ts';
import { IDENTITY } from './documents.ts';
import { SimulatedLeaseKeeper } from './lease-keeper.ts';
import type { SimulatedMembership } from './membership.ts';
import { SimulatedNetworks } from './networks.ts';
import { attempt, type Done } from './outcome.ts';
import { SimulatedRecovery } from './recovery.ts';
import { type SimulatedIdentity, TRUST_DOMAIN } from './signer.ts';
import { Socket } from './socket.ts';
import { SimulatedTrust } from './trust.ts';

/** To its own registry a node of another domain says nothing of what it has seen: it is on no network there. */
const NOWHERE: StorePosition = { storeId: '', revision: 0n, stamp: new Uint8Array(0) };
const ENROL_AGAIN_MS = 2_000;

export class SimulatedAgent {
  readonly #context: AgentContext;
  readonly #networks: SimulatedNetworks;
  readonly #attachments: SimulatedAttachments;
  readonly #socket: Socket;
  readonly #keeper: SimulatedLeaseKeeper;
  readonly #recovery: SimulatedRecovery;
  #isCutOff = false;
  #identity: SimulatedIdentity | undefined;
  #observed: string | undefined;
  #announcement: Announcement = { endpoints: [], behindNat: false, site: undefined };
  #svid: SvidTerm | undefined;
  /** Why the registry will not have it any more. */
  #refusal: Vl3Error | undefined;
  /** What it had when it was refused is taken down. */
  #isTakenDown = false;

  constructor(dependencies: AgentDependencies) {
    const { name: node, trustDomain } = dependencies;
    this.#context = {
      ...dependencies,
      key: nodeKey(TRUST_DOMAIN, { node, trustDomain }),
      trust: new SimulatedTrust({
        ...dependencies,
        own: trustDomain,
        onChanged: (domain) => this.#trustChanged(domain),
      }),
      identity: () => this.#mustIdentity(),
      surroundings: () => this.#announcement,
      stir: () => this.#socket.stir(),
      calls: new LeaseCalls(),
      seen: new SeenStore(dependencies.documents),
      renewLeases: () => this.#keeper.renewSoon(),
      refused: (id) => this.#attachments.refused(id),
      storeReplaced: () => this.#recovery.storeReplaced(),
      leaseMoment: () => dependencies.hooks.leaseMoment(dependencies.moment()),
    };
    this.#networks = new SimulatedNetworks(this.#context);
    this.#attachments = new SimulatedAttachments(this.#context, this.#networks);
    const memberships = () => this.#networks.all;
    this.#socket = new Socket(this.#context, memberships);
    this.#keeper = new SimulatedLeaseKeeper({
      context: this.#context,
      memberships,
      renewals: dependencies.renewals,
      withdraw: (membership, prefix, isLost) => this.#attachments.withdraw(membership, prefix, isLost),
    });
    this.#recovery = new SimulatedRecovery({
      context: this.#context,
      memberships,
      renewLeases: () => this.#keeper.renewSoon(),
    });
  }

  get memberships(): readonly SimulatedMembership[] {
    return this.#networks.all;
  }

  get isEnrolled(): boolean {
    return this.#identity !== undefined;
  }

  get identity(): SimulatedIdentity | undefined {
    return this.#identity;
  }

  /** Its SVID is not accepted: an admin has to enrol it anew. */
  get refusal(): Vl3Error | undefined {
    return this.#refusal;
  }

  start(): void {
    const saved = this.#context.documents.get(IDENTITY, 'self');
    if (saved === undefined) {
      this.#enrol();
      return;
    }
    const identity = { ...saved, chain: saved.chain.map(fromBase64) };
    this.#identity = identity;
    this.#svid = this.#termOf(identity);
    this.#run();
  }

  #enrol(): void {
    const { own, name, enter, later, moment, token } = this.#context;
    const sent = moment();
    own.call(
      name,
      'enrols',
      (registry) => registry.enroll(name, token(), `key of ${name}`),
      (outcome) =>
        enter(() => {
          try {
            if (!outcome.ok) throw outcome.error;
            this.#save(outcome.answer, sent);
          } catch (error) {
            if (!(error instanceof Vl3Error)) throw error;
            if (error.code !== 'unavailable') this.#refusal = error;
            later(ENROL_AGAIN_MS, 'enrols again', () => this.#enrol());
            return;
          }
          this.#refusal = undefined;
          this.#run();
        }),
    );
  }

  /** With another token; the networks stay. */
  enrolAnew(): void {
    if (this.#identity === undefined) return;
    const { own, name, enter, moment, token } = this.#context;
    const sent = moment();
    own.call(
      name,
      'enrols anew',
      (registry) => registry.enroll(name, token(), `key of ${name}`),
      (outcome) =>
        enter(() => {
          if (!outcome.ok || (this.#refusal instanceof NotEnrolled && !this.#loseAll(this.#refusal))) return;
          if (!attempt(() => this.#save(outcome.answer, sent)).ok) return;
          this.#refusal = undefined;
          this.#isTakenDown = false;
          this.#keeper.renewSoon();
          for (const membership of this.#networks.all) membership.identityRenewed();
        }),
    );
  }

  #run(): void {
    const { every, hooks, pace } = this.#context;
    this.#lookAround();
    this.#networks.openSaved();
    this.#keeper.begin();
    for (const membership of this.#networks.all) this.#attachments.restore(membership);
    every(pace.heartbeatMs, 'heartbeats', () => {
      if (this.#svid?.isDue(this.#context.moment()) === true) this.#renew();
      if (!this.#isForeign) this.#beat();
      else {
        this.#askOwn();
        if (this.#networks.all.length > 0) this.#beat();
      }
    });
    every(pace.checkpointMs, 'checkpoints', () => {
      for (const membership of this.#networks.all) membership.checkpoint();
      this.#context.seen.checkpoint();
      if (!hooks.startsOneTimer) every(pace.checkpointMs, 'checkpoints once more', () => undefined);
    });
    every(pace.sweepMs, 'sweeps', () => {
      this.#attachments.sweep();
      this.#networks.leaveUnused((network) => this.#attachments.isBusy(network));
    });
    every(pace.lookAroundMs, 'looks around', () => {
      if (this.#lookAround()) this.#moved();
    });
  }

  // --- packets

  receive(datagram: Uint8Array, source: Endpoint): void {
    this.#socket.receive(datagram, source);
  }

  fromPod(network: string, packet: Uint8Array): void {
    this.#socket.send(network, packet);
  }

  // --- attachments

  attach(request: AttachRequest, done: Done<readonly string[]>): void {
    if (this.#identity === undefined)
      done({ ok: false, error: new Vl3Error('unavailable', 'this node has not enrolled') });
    else this.#attachments.attach(request, done);
  }

  detach(network: string, namespace: string, done: Done<void>): void {
    this.#attachments.detach(network, namespace, done);
  }

  /** Gives what is attached other labels. */
  relabel(
    network: string,
    namespace: string,
    labels: Readonly<Record<string, string>>,
    done: Done<void>,
  ): void {
    this.#attachments.relabel(network, namespace, labels, done);
  }

  // --- the line to the registry

  #beat(): void {
    const { control, name, internet, enter, moment, seen } = this.#context;
    const told = seen.position;
    const askedAt = moment().boot;
    control.call(
      name,
      'heartbeats',
      (registry) => registry.heartbeat(this.#mustIdentity(), internet.publicAddress(name), told),
      (outcome) =>
        enter(() => {
          if (!outcome.ok) {
            this.#isCutOff = true;
            this.#refused(outcome.error);
            return;
          }
          this.#refusal = undefined;
          this.#isTakenDown = false;
          if (this.#isCutOff) {
            this.#keeper.renewSoon();
            for (const membership of this.#networks.all) membership.registryIsBack();
          }
          this.#isCutOff = false;
          const { recovering, observedAddress, storeId, stamp, federations } = outcome.answer;
          if (federations !== undefined) this.#context.trust.heard(federations);
          if (seen.answered(outcome.answer, told)) this.#recovery.storeReplaced();
          this.#recovery.heard(recovering, stamp);
          for (const membership of this.#networks.all)
            attempt(() => membership.registryIsRecovering(recovering, storeId, askedAt));
          if (observedAddress === this.#observed) return;
          this.#observed = observedAddress;
          if (this.#lookAround()) this.#moved();
        }),
    );
  }

  /** Of a node of another domain: who is a partner, and by which CAs. */
  #askOwn(): void {
    const { own, name, enter, trust } = this.#context;
    own.call(
      name,
      'asks its own registry',
      (registry) => registry.heartbeat(this.#mustIdentity(), '', NOWHERE),
      (outcome) =>
        enter(() => {
          if (!outcome.ok) {
            if (outcome.error.code === 'unauthenticated') this.#refusal = outcome.error;
            return;
          }
          this.#refusal = undefined;
          if (outcome.answer.federations !== undefined) trust.heard(outcome.answer.federations);
        }),
    );
  }

  get #isForeign(): boolean {
    return this.#context.trustDomain !== TRUST_DOMAIN;
  }

  #trustChanged(domain: string): void {
    if (domain === TRUST_DOMAIN && !this.#context.trust.isPartner(domain))
      this.#leaveHome('the federation is over');
    // What a full disk does not take is looked at again by the book.
    for (const membership of this.#networks.all) attempt(() => membership.trustChanged(domain));
  }

  /** Of a node of another domain: what is attached is taken down, and then it leaves. */
  #leaveHome(reason: string): void {
    if (!this.#context.isRogue) attempt(() => this.#keeper.loseAll(reason));
  }

  #refused(error: Vl3Error): void {
    if (error.code !== 'unauthenticated') return;
    if (this.#isForeign) {
      if (error instanceof NotEnrolled && error.why === 'deleted') this.#leaveHome(error.message);
      return;
    }
    this.#refusal = error;
    // Others may have its prefixes from now on. That it is not known is what an empty registry says, too.
    if (error instanceof NotEnrolled && error.why === 'deleted') this.#loseAll(error);
  }

  /** Once; false: it failed, and has to be tried again. */
  #loseAll({ message }: NotEnrolled): boolean {
    this.#isTakenDown ||= attempt(() => this.#keeper.loseAll(message)).ok;
    return this.#isTakenDown;
  }

  /** The SVID, well before it ends. */
  #renew(): void {
    const { own, name, enter, moment } = this.#context;
    const sent = moment();
    this.#svid?.failed(sent);
    own.call(
      name,
      'renews its SVID',
      (registry) => registry.renewSvid(this.#mustIdentity()),
      (outcome) =>
        enter(() => {
          if (!outcome.ok || !attempt(() => this.#save(outcome.answer, sent)).ok) return;
          for (const membership of this.#networks.all) membership.identityRenewed();
        }),
    );
  }

  /** Got by a request sent at `sent`. Throws when it does not hold by this machine's clock, as src/identity/identity.ts does. */
  #save(identity: SimulatedIdentity, sent: Moment): void {
    const { documents, time } = this.#context;
    const { wallclock } = time();
    if (wallclock < identity.notBefore || wallclock >= identity.notAfter)
      throw new Vl3Error('unavailable', 'the registry and this machine do not agree about the time');
    documents.put(IDENTITY, 'self', { ...identity, chain: identity.chain.map(toBase64) });
    this.#identity = identity;
    if (this.#svid === undefined) this.#svid = this.#termOf(identity);
    else this.#svid.renewed(identity, identity.termMs, sent);
  }

  #termOf(identity: SimulatedIdentity): SvidTerm {
    const { documents, moment, random } = this.#context;
    return new SvidTerm(identity, documents, moment(), () => random.fraction());
  }

  /** True when what is announced changed. */
  #lookAround(): boolean {
    const { internet, name, udpPort } = this.#context;
    const before = JSON.stringify(this.#announcement);
    this.#announcement = announce({
      localAddresses: [internet.location(name).address],
      ownAddresses: [],
      observedAddress: this.#observed,
      advertised: [],
      port: udpPort,
    });
    return JSON.stringify(this.#announcement) !== before;
  }

  #moved(): void {
    for (const membership of this.#networks.all) membership.surroundingsChanged();
  }

  #mustIdentity(): SimulatedIdentity {
    if (this.#identity === undefined) throw new Vl3Error('internal', 'asked before the node has enrolled');
    return this.#identity;
  }
}
