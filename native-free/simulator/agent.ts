// An agent's process on a simulated machine: it enrols, heartbeats, renews its SVID, joins and leaves networks, attaches
// and detaches pods, and after a start takes up what its disk and its kernel hold. The order of writes and effects is
// that of src/agent. It may die at any write.

import { fromBase64, toBase64 } from '../base64.ts';
import type { Endpoint } from '../device/data-plane.ts';
import type { Time } from '../device/tunnel.ts';
import { NotEnrolled, Vl3Error } from '../error.ts';
import { LeaseCalls } from '../ipam/lease-calls.ts';
import type { Moment } from '../moment.ts';
import type { Primitives, RandomBytes } from '../noise/primitives.ts';
import type { Port } from '../port/port.ts';
import { type Announcement, announce } from '../reconcile/endpoints.ts';
import { SeenStore } from '../reconcile/seen-store.ts';
import { SvidTerm } from '../reconcile/svid-term.ts';
import { type AttachRequest, SimulatedAttachments } from './attachments.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Counters } from './counters.ts';
import { type Documents, IDENTITY } from './documents.ts';
import type { Hooks } from './hooks.ts';
import type { Internet } from './internet.ts';
import type { Kernel } from './kernel.ts';
import { SimulatedLeaseKeeper } from './lease-keeper.ts';
import type { LeaseRenewals } from './lease-renewals.ts';
import type { SimulatedMembership } from './membership.ts';
import { SimulatedNetworks } from './networks.ts';
import { attempt, type Done } from './outcome.ts';
import type { Pace } from './pace.ts';
import type { Random } from './random.ts';
import { SimulatedRecovery } from './recovery.ts';
import type { Timer } from './scheduler.ts';
import type { SimulatedIdentity, SimulatedSigner } from './signer.ts';
import { Socket } from './socket.ts';

export interface AgentDependencies {
  readonly name: string;
  readonly documents: Documents;
  readonly kernel: Kernel;
  readonly internet: Internet;
  readonly control: ControlPlane;
  readonly signer: SimulatedSigner;
  readonly primitives: Primitives;
  readonly port: Port;
  readonly random: Random;
  readonly randomBytes: RandomBytes;
  readonly counters: Counters;
  readonly hooks: Hooks;
  readonly pace: Pace;
  /** Of the inside, in bytes. */
  readonly mtu: number;
  readonly udpPort: number;
  /** `now` is CLOCK_BOOTTIME. */
  readonly time: () => Time;
  readonly moment: () => Moment;
  /** The secret of the join token it was started with. */
  readonly token: () => string;
  /** Runs work as part of this process: not at all when it is dead, and it may die of it. */
  readonly enter: (work: () => void) => void;
  /** Since when it could not renew its leases. */
  readonly renewals: LeaseRenewals;
  /** An attachment is taken off whose prefix may not be this node's any more. */
  readonly withdrawn: (network: string, namespace: string, isLost: boolean) => void;
  readonly later: (delay: number, label: string, work: () => void) => Timer;
  readonly every: (period: number, label: string, work: () => void) => void;
}

/** What the networks of an agent share. */
export interface AgentContext extends AgentDependencies {
  readonly identity: () => SimulatedIdentity;
  readonly surroundings: () => Announcement;
  /** The tunnels have to be looked at soon. */
  readonly stir: () => void;
  readonly calls: LeaseCalls;
  readonly seen: SeenStore;
  /** The registry's store is another one than before, or an older copy of it. */
  readonly storeReplaced: () => void;
  /** The clocks that leases are measured by. */
  readonly leaseMoment: () => Moment;
}

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
    this.#context = {
      ...dependencies,
      identity: () => this.#mustIdentity(),
      surroundings: () => this.#announcement,
      stir: () => this.#socket.stir(),
      calls: new LeaseCalls(),
      seen: new SeenStore(dependencies.documents),
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
    const { control, name, enter, later, moment, token } = this.#context;
    const sent = moment();
    control.call(
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
    const { control, name, enter, moment, token } = this.#context;
    const sent = moment();
    control.call(
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
    every(pace.heartbeatMs, 'heartbeats', () => this.#beat());
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

  // --- the line to the registry

  #beat(): void {
    const { control, name, internet, enter, moment, seen } = this.#context;
    const told = seen.position;
    const askedAt = moment().boot;
    if (this.#svid?.isDue(moment()) === true) this.#renew();
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
          const { recovering, observedAddress, storeId, stamp } = outcome.answer;
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

  #refused(error: Vl3Error): void {
    if (error.code !== 'unauthenticated') return;
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
    const { control, name, enter, moment } = this.#context;
    const sent = moment();
    this.#svid?.failed(sent);
    control.call(
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
