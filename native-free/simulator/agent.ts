// An agent's process on a simulated machine: it enrols, heartbeats, joins and leaves networks, attaches and detaches pods,
// and after a start takes up what its disk and its kernel hold. The order of writes and effects is that of src/agent
// (agent, networks, attachments). It may die at any write.

import type { Endpoint } from '../device/data-plane.ts';
import type { Time } from '../device/tunnel.ts';
import { Vl3Error } from '../error.ts';
import { type Address, formatAddress } from '../ipam/prefix.ts';
import type { Primitives, RandomBytes } from '../noise/primitives.ts';
import type { Port } from '../port/port.ts';
import { type Announcement, announce } from '../reconcile/endpoints.ts';
import { messageType, TRANSPORT_TYPE, Transport } from '../wire/message.ts';
import { fromBase64, toBase64 } from './base64.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Counters } from './counters.ts';
import {
  ATTACHMENT,
  type Documents,
  IDENTITY,
  NETWORK,
  type SavedAttachment,
  type SavedNetwork,
} from './documents.ts';
import type { Hooks } from './hooks.ts';
import type { Internet } from './internet.ts';
import type { Kernel } from './kernel.ts';
import { SimulatedMembership } from './membership.ts';
import { attempt, type Outcome, orFail } from './outcome.ts';
import type { Random } from './random.ts';
import type { SimulatedIdentity, SimulatedSigner } from './signer.ts';

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
  /** Of the inside, in bytes. */
  readonly mtu: number;
  readonly udpPort: number;
  readonly time: () => Time;
  /** Runs work as part of this process: not at all when it is dead, and it may die of it. */
  readonly enter: (work: () => void) => void;
  readonly later: (delay: number, label: string, work: () => void) => void;
  readonly every: (period: number, label: string, work: () => void) => void;
}

/** What the networks of an agent share. */
export interface AgentContext extends AgentDependencies {
  readonly identity: () => SimulatedIdentity;
  readonly surroundings: () => Announcement;
}

export interface AttachRequest {
  readonly network: string;
  readonly namespace: string;
  readonly workload: string;
}

type Done<T> = (outcome: Outcome<T>) => void;

const TICK_MS = 250;
const HEARTBEAT_MS = 5_000;
const CHECKPOINT_MS = 5_000;
const SWEEP_MS = 10_000;
const LOOK_AROUND_MS = 10_000;
/** Far sooner than in src/agent/networks.ts, to leave more often. */
const LEAVE_AFTER_MS = 15_000;
const ENROL_AGAIN_MS = 2_000;

export class SimulatedAgent {
  readonly #context: AgentContext;
  readonly #memberships = new Map<string, SimulatedMembership>();
  /** Who waits for a network that is being joined or left. */
  readonly #opening = new Map<string, Done<SimulatedMembership>[]>();
  /** Attachments are worked on one at a time each. */
  readonly #busy = new Map<string, (() => void)[]>();
  #identity: SimulatedIdentity | undefined;
  #observed: string | undefined;
  #announcement: Announcement = { endpoints: [], behindNat: false, site: undefined };

  constructor(dependencies: AgentDependencies) {
    this.#context = {
      ...dependencies,
      identity: () => this.#mustIdentity(),
      surroundings: () => this.#announcement,
    };
  }

  get memberships(): readonly SimulatedMembership[] {
    return [...this.#memberships.values()];
  }

  get isEnrolled(): boolean {
    return this.#identity !== undefined;
  }

  start(): void {
    const { documents } = this.#context;
    const saved = documents.get(IDENTITY, 'self');
    if (saved === undefined) {
      this.#enrol();
      return;
    }
    this.#identity = { ...saved, chain: saved.chain.map(fromBase64) };
    this.#run();
  }

  #enrol(): void {
    const { control, name, documents, enter, later } = this.#context;
    control.call(
      name,
      'enrols',
      (registry) => registry.enroll(name),
      (outcome) =>
        enter(() => {
          try {
            if (!outcome.ok) throw outcome.error;
            const identity = outcome.answer;
            documents.put(IDENTITY, 'self', { ...identity, chain: identity.chain.map(toBase64) });
            this.#identity = identity;
          } catch (error) {
            if (!(error instanceof Vl3Error)) throw error;
            later(ENROL_AGAIN_MS, 'enrols again', () => this.#enrol());
            return;
          }
          this.#run();
        }),
    );
  }

  #run(): void {
    const { every, documents, kernel, hooks } = this.#context;
    this.#lookAround();
    for (const { value } of documents.list(NETWORK)) {
      this.#open(value);
      if (value.isLeaving) this.#leave(value.name);
    }
    for (const network of kernel.networks) if (!this.#memberships.has(network)) kernel.removeRouter(network);
    for (const membership of this.#memberships.values()) this.#restore(membership);
    every(TICK_MS, 'ticks', () => {
      for (const membership of this.#memberships.values()) membership.tick();
    });
    every(HEARTBEAT_MS, 'heartbeats', () => this.#beat());
    every(CHECKPOINT_MS, 'checkpoints', () => {
      for (const membership of this.#memberships.values()) membership.checkpoint();
      if (!hooks.startsOneTimer) every(CHECKPOINT_MS, 'checkpoints once more', () => undefined);
    });
    every(SWEEP_MS, 'sweeps', () => this.#sweep());
    every(LOOK_AROUND_MS, 'looks around', () => {
      if (this.#lookAround()) this.#moved();
    });
  }

  // --- packets

  receive(datagram: Uint8Array, source: Endpoint): void {
    const { port, hooks, time, counters } = this.#context;
    const now = time();
    if (messageType(datagram) !== TRANSPORT_TYPE) {
      const received = port.receive(datagram, source, now.now, now.wallclock);
      if (received === undefined) return;
      const { device, actions } = received;
      this.memberships.find(({ tunnel }) => tunnel.device === device)?.tunnel.carryOut(actions, now);
      return;
    }
    const receiver = Transport.parse(datagram)?.receiver;
    if (receiver === undefined) {
      counters.add('malformed datagrams received');
      return;
    }
    for (const { tunnel } of this.#memberships.values()) {
      if (tunnel.plane.keypair(receiver) === undefined) continue;
      hooks.beforeReceive?.(tunnel, datagram, source);
      tunnel.fromOutside(datagram, source, now);
      return;
    }
  }

  fromPod(network: string, packet: Uint8Array): void {
    this.#memberships.get(network)?.fromPod(packet);
  }

  // --- networks

  /** The membership of a network, joined now if need be. */
  #join(network: string, done: Done<SimulatedMembership>): void {
    const waiting = this.#opening.get(network);
    if (waiting !== undefined) {
      waiting.push(() => this.#join(network, done));
      return;
    }
    const present = this.#memberships.get(network);
    if (present !== undefined && !present.saved.isLeaving) {
      done({ ok: true, answer: present });
      return;
    }
    if (present !== undefined) {
      this.#leave(network, (left) => {
        if (left.ok) this.#join(network, done);
        else done(left);
      });
      return;
    }
    this.#enter(network, done);
  }

  #enter(network: string, done: Done<SimulatedMembership>): void {
    const { control, name, enter, documents, randomBytes, time } = this.#context;
    this.#opening.set(network, []);
    control.call(
      name,
      `joins ${network}`,
      (registry) => registry.joinNetwork(this.#mustIdentity(), network),
      (outcome) =>
        enter(() => {
          this.#settle(network, done, () => {
            if (!outcome.ok) throw outcome.error;
            const { network: joined, leases } = outcome.answer;
            const saved: SavedNetwork = {
              name: network,
              uid: joined.uid,
              pools: [joined.poolV4, joined.poolV6].filter((pool) => pool !== undefined),
              excluded: joined.excluded,
              leases: leases.map(({ prefix, leasedAt }) => ({ prefix, leasedAt })),
              privateKey: toBase64(randomBytes(32)),
              timestampMark: '',
              recordSequence: 0,
              emptySince: time().wallclock,
              isLeaving: false,
              allocator: { prefixes: [] },
            };
            documents.put(NETWORK, network, saved);
            return this.#open(saved);
          });
        }),
    );
  }

  #open(saved: SavedNetwork): SimulatedMembership {
    const membership = new SimulatedMembership(saved, this.#context);
    this.#memberships.set(saved.name, membership);
    membership.start();
    return membership;
  }

  /** Writes down that it leaves, tells the registry, then forgets: whatever is cut off is finished after a start. */
  #leave(network: string, done: Done<void> = () => undefined): void {
    const { control, name, enter, hooks } = this.#context;
    const membership = this.#memberships.get(network);
    if (membership === undefined || this.#opening.has(network)) return;
    const marked = attempt(() => {
      if (hooks.writesLeaving) membership.markLeaving();
    });
    if (!marked.ok) {
      done(marked);
      return;
    }
    this.#opening.set(network, []);
    control.call(
      name,
      `leaves ${network}`,
      (registry) => registry.leaveNetwork(this.#mustIdentity(), network),
      (outcome) =>
        enter(() =>
          this.#settle(network, done, () => {
            if (!outcome.ok) throw outcome.error;
            membership.remove();
            this.#memberships.delete(network);
          }),
        ),
    );
  }

  /** Ends what was under way for a network, and lets those go on who waited. */
  #settle<T>(network: string, done: Done<T>, work: () => T): void {
    const waiting = this.#opening.get(network) ?? [];
    this.#opening.delete(network);
    const outcome = attempt(work);
    done(outcome);
    for (const one of waiting) one({ ok: false, error: new Vl3Error('unavailable', 'look again') });
  }

  // --- attachments

  /** Asked again for the same namespace and network it answers the same. */
  attach(request: AttachRequest, done: Done<readonly string[]>): void {
    if (this.#identity === undefined) {
      done({ ok: false, error: new Vl3Error('unavailable', 'this node has not enrolled') });
      return;
    }
    this.#oneAtATime(`${request.network} ${request.namespace}`, done, (finish) => {
      this.#join(request.network, (joined) => {
        if (!joined.ok) finish(joined);
        else orFail(finish, () => this.#attach(joined.answer, request, finish));
      });
    });
  }

  #attach(membership: SimulatedMembership, request: AttachRequest, done: Done<readonly string[]>): void {
    const { documents, randomBytes, kernel, time } = this.#context;
    const present = this.#find(request.network, request.namespace);
    if (present !== undefined) {
      // Also when it was made before: its interface may have been removed since.
      this.#make(membership, present);
      done({ ok: true, answer: present.addresses });
      return;
    }
    if (!kernel.hasNamespace(request.namespace))
      throw new Vl3Error('failed-precondition', `there is no namespace ${request.namespace}`);
    const id = [...randomBytes(6)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const attachment = (addresses: readonly Address[]): SavedAttachment => ({
      id,
      ...request,
      addresses: addresses.map(formatAddress),
      ready: false,
      attachedAt: Math.floor(time().wallclock),
    });
    membership.allocate(
      id,
      (addresses) => documents.put(ATTACHMENT, id, attachment(addresses)),
      (allocated) =>
        orFail(done, () => {
          if (!allocated.ok) throw allocated.error;
          const made = attachment(allocated.answer);
          try {
            this.#make(membership, made);
          } catch (error) {
            if (error instanceof Vl3Error) this.#unmake(made);
            throw error;
          }
          done({ ok: true, answer: made.addresses });
        }),
    );
  }

  /** What is not there is no error. */
  detach(network: string, namespace: string, done: Done<void>): void {
    this.#oneAtATime(`${network} ${namespace}`, done, (finish) =>
      orFail(finish, () => {
        const found = this.#find(network, namespace);
        if (found !== undefined) this.#unmake(found);
        finish({ ok: true, answer: undefined });
      }),
    );
  }

  #make(membership: SimulatedMembership, attachment: SavedAttachment): void {
    const { kernel, documents } = this.#context;
    const { id, network, namespace, addresses } = attachment;
    kernel.connect(network, { attachmentId: id, namespace, addresses });
    if (attachment.ready) return;
    documents.put(ATTACHMENT, id, { ...attachment, ready: true });
    membership.attachmentsChanged();
  }

  /** Whatever it is cut off at, the attachment can be made or unmade again. */
  #unmake(attachment: SavedAttachment): void {
    const { kernel, documents } = this.#context;
    const { id, network, addresses } = attachment;
    const membership = this.#memberships.get(network);
    kernel.disconnect(network, id);
    const strike = (): void => documents.delete(ATTACHMENT, id);
    if (membership === undefined) strike();
    else membership.free(id, addresses, strike);
    membership?.attachmentsChanged();
  }

  /** After a start: repairs what should be there, and drops what should not. */
  #restore(membership: SimulatedMembership): void {
    const { kernel } = this.#context;
    const { network, attachments } = membership;
    const known = new Set(attachments.map(({ id }) => id));
    for (const id of [...kernel.interfaces(network).keys()])
      if (!known.has(id)) kernel.disconnect(network, id);
    for (const attachment of attachments) {
      const repaired = attempt(() => {
        if (kernel.hasNamespace(attachment.namespace)) this.#make(membership, attachment);
        else this.#unmake(attachment);
      });
      if (!repaired.ok) this.#context.counters.add('attachments not repaired');
    }
    attempt(() => membership.freeStrangers());
  }

  #find(network: string, namespace: string): SavedAttachment | undefined {
    return this.#context.documents
      .list(ATTACHMENT)
      .map(({ value }) => value)
      .find((one) => one.network === network && one.namespace === namespace);
  }

  /** Detaches what belongs to namespaces that are gone, and leaves networks that nothing has used for a while. */
  #sweep(): void {
    const { documents, kernel, time } = this.#context;
    for (const { value } of documents.list(ATTACHMENT))
      if (!kernel.hasNamespace(value.namespace)) this.detach(value.network, value.namespace, () => undefined);
    for (const { saved, attachments } of this.memberships) {
      const isUnused = saved.emptySince > 0 && time().wallclock - saved.emptySince >= LEAVE_AFTER_MS;
      if ((isUnused && attachments.length === 0 && !this.#isAttaching(saved.name)) || saved.isLeaving)
        this.#leave(saved.name);
    }
  }

  #isAttaching(network: string): boolean {
    return [...this.#busy.keys()].some((key) => key.startsWith(`${network} `));
  }

  #oneAtATime<T>(key: string, done: Done<T>, work: (finish: Done<T>) => void): void {
    const waiting = this.#busy.get(key);
    if (waiting !== undefined) {
      waiting.push(() => this.#oneAtATime(key, done, work));
      return;
    }
    this.#busy.set(key, []);
    work((outcome) => {
      const next = this.#busy.get(key) ?? [];
      this.#busy.delete(key);
      done(outcome);
      for (const one of next) one();
    });
  }

  // --- where this node is

  #beat(): void {
    const { control, name, internet, enter } = this.#context;
    control.call(
      name,
      'heartbeats',
      (registry) => registry.heartbeat(this.#mustIdentity(), internet.publicAddress(name)),
      (outcome) =>
        enter(() => {
          if (!outcome.ok || outcome.answer === this.#observed) return;
          this.#observed = outcome.answer;
          if (this.#lookAround()) this.#moved();
        }),
    );
  }

  /** True when what is announced changed. */
  #lookAround(): boolean {
    const { internet, name, udpPort } = this.#context;
    const before = JSON.stringify(this.#announcement);
    this.#announcement = announce({
      localAddresses: [internet.location(name).address],
      observedAddress: this.#observed,
      advertised: [],
      port: udpPort,
    });
    return JSON.stringify(this.#announcement) !== before;
  }

  #moved(): void {
    for (const membership of this.#memberships.values()) membership.surroundingsChanged();
  }

  #mustIdentity(): SimulatedIdentity {
    if (this.#identity === undefined) throw new Vl3Error('internal', 'asked before the node has enrolled');
    return this.#identity;
  }
}
