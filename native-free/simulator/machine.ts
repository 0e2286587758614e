// One machine: a disk, a kernel, and at most one agent's process on it. An agent that dies loses what it knew beside the
// disk and comes back a little later, as under systemd; a machine that goes down takes its pods along. A process may be
// stopped for a while, and so may the whole machine: their timers then fire late, and CLOCK_BOOTTIME has gone on.

import { Vl3Error } from '../error.ts';
import type { Moment } from '../moment.ts';
import type { Primitives } from '../noise/primitives.ts';
import { NETWORK } from '../reconcile/documents.ts';
import { leasePhase } from '../reconcile/saved-network.ts';
import { nodeKey } from '../registry/node-key.ts';
import { SimulatedAgent } from './agent.ts';
import type { AgentDependencies, Withdrawal } from './agent-context.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Counters } from './counters.ts';
import { CountingPort } from './counting-port.ts';
import { Crash, CrashSwitch } from './crash.ts';
import { Disk } from './disk.ts';
import { Documents } from './documents.ts';
import { Freezer } from './freezer.ts';
import type { Hooks } from './hooks.ts';
import type { Internet, Location } from './internet.ts';
import { Kernel, type KernelObserver } from './kernel.ts';
import { LeaseRenewals } from './lease-renewals.ts';
import type { Pace } from './pace.ts';
import type { Random } from './random.ts';
import type { Scheduler, Timer } from './scheduler.ts';
import { type SimulatedSigner, TRUST_DOMAIN } from './signer.ts';

/** Unix ms at virtual time 0. */
export const EPOCH = 1_900_000_000_000;
export const UDP_PORT = 51_820;
const INSIDE_MTU = 1420;
const RESTART_MS: readonly [number, number] = [200, 3000];

export interface MachineDependencies {
  readonly scheduler: Scheduler;
  readonly internet: Internet;
  /** The line to the registry of the networks, and the one to its own domain's. */
  readonly control: ControlPlane;
  readonly own: ControlPlane;
  readonly signers: ReadonlyMap<string, SimulatedSigner>;
  readonly trustDomain: string;
  readonly isRogue: boolean;
  readonly primitives: Primitives;
  readonly random: Random;
  readonly counters: Counters;
  readonly hooks: Hooks;
  readonly pace: Pace;
  readonly observer: KernelObserver;
  readonly onWithdrawn: (network: string, namespace: string, why: Withdrawal) => void;
  /** After an agent has started. */
  readonly onStart: () => void;
}

export class Machine {
  readonly name: string;
  /** Whose it is. */
  readonly trustDomain: string;
  readonly isRogue: boolean;
  readonly disk: Disk;
  readonly kernel: Kernel;
  readonly crash = new CrashSwitch();
  readonly freezer: Freezer;
  readonly renewals: LeaseRenewals;
  agent: SimulatedAgent | undefined;
  /** Milliseconds that this machine's wall clock is ahead. */
  clockOffset = 0;
  /** Receiver indices in use. */
  indices = 0;
  /** The secret of the join token that its operator has. */
  token = '';
  /** It does not come back. */
  isLost = false;
  lostAt = 0;
  /** An admin deleted the node, and its operator has not yet cleaned it. */
  isDeleted = false;
  /** The federation that it came by is over, and it has not yet dropped what it had. */
  isExpelled = false;
  /** When it was last up from the ground: CLOCK_BOOTTIME counts from there. */
  bootedAt = 0;
  readonly #dependencies: MachineDependencies;
  #timers = new Set<Timer>();
  #restart: Timer | undefined;

  constructor(name: string, location: Location, dependencies: MachineDependencies) {
    const { random, internet, observer, counters } = dependencies;
    this.name = name;
    this.trustDomain = dependencies.trustDomain;
    this.isRogue = dependencies.isRogue;
    this.#dependencies = dependencies;
    this.disk = new Disk(random.split('disk'), this.crash);
    this.kernel = new Kernel(this.crash, observer);
    this.freezer = new Freezer(counters);
    this.renewals = new LeaseRenewals(() => dependencies.scheduler.now);
    internet.addHost(name, location, UDP_PORT, (datagram, source) =>
      this.freezer.datagram(() => this.enter(() => this.agent?.receive(datagram, source))),
    );
  }

  /** What the networks' home calls it. */
  get key(): string {
    return nodeKey(TRUST_DOMAIN, { node: this.name, trustDomain: this.trustDomain });
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Unix ms by this machine's clock. */
  get wallclock(): number {
    return EPOCH + this.#dependencies.scheduler.now + this.clockOffset;
  }

  get moment(): Moment {
    const boot = this.#dependencies.scheduler.now - this.bootedAt + 1;
    return { bootId: `${this.name} ${this.bootedAt}`, boot, wall: Math.floor(this.wallclock) };
  }

  /** By its disk and its clock: what it may use on a network, as prefixes. */
  usable(network: string): string[] {
    const saved = new Documents(this.disk).get(NETWORK, network);
    if (saved === undefined || saved.isLeaving) return [];
    return saved.leases
      .filter((lease) => {
        const phase = leasePhase(lease, this.moment);
        return phase === 'good' || phase === 'closing';
      })
      .map(({ prefix }) => prefix);
  }

  /** By its disk it is on a network. */
  get holdsSomething(): boolean {
    return new Documents(this.disk).list(NETWORK).length > 0;
  }

  /** Starts the agent, if none runs. */
  start(): void {
    if (this.agent !== undefined || this.isLost) return;
    if (this.freezer.isAsleep) {
      this.freezer.run(() => this.start());
      return;
    }
    const { counters } = this.#dependencies;
    this.#restart?.cancel();
    const agent = new SimulatedAgent(this.#agentDependencies(() => this.agent === agent));
    this.agent = agent;
    this.kernel.toTunnel = (network, packet) => this.ask(() => this.agent?.fromPod(network, packet));
    const start = (): void =>
      ignoring(
        () => agent.start(),
        () => {
          counters.add('agents that could not start');
          this.kill();
          this.startLater();
        },
      );
    this.enter(start);
    if (this.agent === agent) this.#dependencies.onStart();
  }

  /** The agent dies at once, and stays dead until it is started. */
  kill(): void {
    this.renewals.began();
    this.agent = undefined;
    this.kernel.toTunnel = undefined;
    for (const timer of this.#timers) timer.cancel();
    this.#timers = new Set();
    this.freezer.killed();
    this.indices = 0;
    this.#dependencies.control.abandon(this.name);
    this.#dependencies.own.abandon(this.name);
    this.#restart?.cancel();
    this.crash.disarm();
    this.disk.crashed();
  }

  /** The machine goes down with everything on it but the disk. */
  halt(): void {
    this.kill();
    this.kernel.halt();
  }

  /** It is up again. */
  boot(): void {
    this.bootedAt = this.#dependencies.scheduler.now;
    this.renewals.rebooted();
    this.start();
  }

  startLater(): void {
    const { scheduler, random } = this.#dependencies;
    this.#restart?.cancel();
    const label = `${this.name} starts its agent`;
    this.#restart = scheduler.after(random.between(...RESTART_MS), label, () => this.start());
  }

  /** Its operator gives the agent another token; what runs goes on meanwhile, and takes down what it has to. */
  enrolAnew(token: string): void {
    this.token = token;
    this.ask(() => this.agent?.enrolAnew());
  }

  /** Its operator runs `vl3 agent clean`. The pods stay, without their interfaces. */
  clean(): void {
    this.kill();
    for (const network of this.kernel.networks) this.kernel.removeRouter(network);
    this.disk.restore(new Map());
    this.isDeleted = false;
  }

  /** Runs work of the agent's process, which may die of it. */
  enter(work: () => void): void {
    if (this.agent === undefined) return;
    try {
      work();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.#dependencies.counters.add(`agent crashes at ${error.message.slice('died at '.length)}`);
      this.kill();
      this.startLater();
    }
  }

  /** As `enter`, and when the process is stopped, once it goes on. */
  ask(work: () => void): void {
    this.freezer.run(() => this.enter(work));
  }

  #agentDependencies(isAlive: () => boolean): AgentDependencies {
    const { scheduler, internet, control, own, signers, primitives, random, counters, hooks, pace } =
      this.#dependencies;
    const randomBytes = (length: number): Uint8Array => random.bytes(length);
    const enter = (work: () => void): void => {
      if (isAlive())
        this.freezer.run(() => {
          if (isAlive()) this.enter(work);
        });
    };
    return {
      name: this.name,
      documents: new Documents(this.disk),
      kernel: this.kernel,
      internet,
      control,
      own,
      signers,
      trustDomain: this.trustDomain,
      isRogue: this.isRogue,
      primitives,
      random,
      randomBytes,
      counters,
      hooks,
      pace,
      mtu: INSIDE_MTU,
      udpPort: UDP_PORT,
      port: new CountingPort(this, randomBytes),
      // CLOCK_BOOTTIME starts past 0: to the data plane, 0 means never.
      time: () => ({ now: this.moment.boot, wallclock: this.wallclock }),
      moment: () => this.moment,
      token: () => this.token,
      renewals: this.renewals,
      withdrawn: (network, namespace, why) => this.#dependencies.onWithdrawn(network, namespace, why),
      enter,
      later: (delay, label, work) => {
        const timer = scheduler.after(delay, `${this.name} ${label}`, () => {
          this.#timers.delete(timer);
          enter(work);
        });
        const cancelled: Timer = {
          cancel: () => {
            timer.cancel();
            this.#timers.delete(timer);
          },
        };
        this.#timers.add(timer);
        return cancelled;
      },
      every: (period, label, work) => {
        const first = random.fraction() * period;
        let waits = false;
        const run = (): void => {
          // However long the process was stopped, it comes once.
          if (waits) return;
          waits = true;
          enter(() => {
            waits = false;
            ignoring(work, () => counters.add('periodic work failed'));
          });
          if (!this.freezer.isFrozen) waits = false;
        };
        this.#timers.add(scheduler.every(period, first, `${this.name} ${label}`, run));
      },
    };
  }
}

/** Runs work that may fail as an operation does, and not otherwise. */
const ignoring = (work: () => void, onFailure: () => void): void => {
  try {
    work();
  } catch (error) {
    if (!(error instanceof Vl3Error)) throw error;
    onFailure();
  }
};
