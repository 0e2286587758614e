// One machine: a disk, a kernel, and at most one agent's process on it. An agent that dies loses what it knew beside the
// disk and comes back a little later, as under systemd; a machine that goes down takes its pods along.

import { Vl3Error } from '../error.ts';
import type { Primitives } from '../noise/primitives.ts';
import { Port } from '../port/port.ts';
import { type AgentDependencies, SimulatedAgent } from './agent.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Counters } from './counters.ts';
import { Crash, CrashSwitch } from './crash.ts';
import { Disk } from './disk.ts';
import { Documents } from './documents.ts';
import type { Hooks } from './hooks.ts';
import type { Internet, Location } from './internet.ts';
import { Kernel, type KernelObserver } from './kernel.ts';
import type { Random } from './random.ts';
import type { Scheduler, Timer } from './scheduler.ts';
import type { SimulatedSigner } from './signer.ts';

/** Unix ms at virtual time 0. */
export const EPOCH = 1_900_000_000_000;
export const UDP_PORT = 51_820;
const INSIDE_MTU = 1420;
const RESTART_MS: readonly [number, number] = [200, 3000];

export interface MachineDependencies {
  readonly scheduler: Scheduler;
  readonly internet: Internet;
  readonly control: ControlPlane;
  readonly signer: SimulatedSigner;
  readonly primitives: Primitives;
  readonly random: Random;
  readonly counters: Counters;
  readonly hooks: Hooks;
  readonly observer: KernelObserver;
  /** After an agent has started. */
  readonly onStart: () => void;
}

export class Machine {
  readonly name: string;
  readonly disk: Disk;
  readonly kernel: Kernel;
  readonly crash = new CrashSwitch();
  agent: SimulatedAgent | undefined;
  /** Milliseconds that this machine's wall clock is ahead. */
  clockOffset = 0;
  /** Receiver indices in use. */
  indices = 0;
  readonly #dependencies: MachineDependencies;
  #timers = new Set<Timer>();
  #restart: Timer | undefined;

  constructor(name: string, location: Location, dependencies: MachineDependencies) {
    const { random, internet, observer } = dependencies;
    this.name = name;
    this.#dependencies = dependencies;
    this.disk = new Disk(random.split('disk'), this.crash);
    this.kernel = new Kernel(this.crash, observer);
    internet.addHost(name, location, UDP_PORT, (datagram, source) =>
      this.enter(() => this.agent?.receive(datagram, source)),
    );
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Starts the agent, if none runs. */
  start(): void {
    if (this.agent !== undefined) return;
    const { counters } = this.#dependencies;
    this.#restart?.cancel();
    const agent = new SimulatedAgent(this.#agentDependencies(() => this.agent === agent));
    this.agent = agent;
    this.kernel.toTunnel = (network, packet) => this.enter(() => this.agent?.fromPod(network, packet));
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
    this.agent = undefined;
    this.kernel.toTunnel = undefined;
    for (const timer of this.#timers) timer.cancel();
    this.#timers = new Set();
    this.indices = 0;
    this.#dependencies.control.abandon(this.name);
    this.#restart?.cancel();
    this.crash.disarm();
    this.disk.crashed();
  }

  /** The machine goes down with everything on it but the disk. */
  halt(): void {
    this.kill();
    this.kernel.halt();
  }

  startLater(): void {
    const { scheduler, random } = this.#dependencies;
    this.#restart?.cancel();
    const label = `${this.name} starts its agent`;
    this.#restart = scheduler.after(random.between(...RESTART_MS), label, () => this.start());
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

  #agentDependencies(isAlive: () => boolean): AgentDependencies {
    const { scheduler, internet, control, signer, primitives, random, counters, hooks } = this.#dependencies;
    const randomBytes = (length: number): Uint8Array => random.bytes(length);
    const enter = (work: () => void): void => {
      if (isAlive()) this.enter(work);
    };
    return {
      name: this.name,
      documents: new Documents(this.disk),
      kernel: this.kernel,
      internet,
      control,
      signer,
      primitives,
      random,
      randomBytes,
      counters,
      hooks,
      mtu: INSIDE_MTU,
      udpPort: UDP_PORT,
      port: new CountingPort(this, randomBytes),
      // The monotonic clock starts past 0: to the data plane, 0 means never.
      time: () => ({ now: scheduler.now + 1, wallclock: EPOCH + scheduler.now + this.clockOffset }),
      enter,
      later: (delay, label, work) => {
        const timer = scheduler.after(delay, `${this.name} ${label}`, () => {
          this.#timers.delete(timer);
          enter(work);
        });
        this.#timers.add(timer);
      },
      every: (period, label, work) => {
        const first = random.fraction() * period;
        const run = (): void => enter(() => ignoring(work, () => counters.add('periodic work failed')));
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

/** A port that says how many receiver indices are in use. */
class CountingPort extends Port {
  readonly #machine: Machine;

  constructor(machine: Machine, random: (length: number) => Uint8Array) {
    super({ random });
    this.#machine = machine;
  }

  override claim(owner: Parameters<Port['claim']>[0]): number {
    this.#machine.indices++;
    return super.claim(owner);
  }

  override release(index: number): void {
    this.#machine.indices--;
    super.release(index);
  }
}
