// The whole world of one plan: machines, a registry, the internet between them, the workload and the faults. Runs to the
// end of the plan, ends all faults, and waits until every pod of a network reaches every other that it can. One plan gives
// one trace.

import { noblePrimitives } from '../noise/noble-primitives.ts';
import { Attacker } from './attacker.ts';
import { ControlPlane, REGISTRY_HOST } from './control-plane.ts';
import { Counters } from './counters.ts';
import { type Hooks, NO_BUGS } from './hooks.ts';
import { FAIR_WEATHER, Internet, type Location } from './internet.ts';
import { type Invariant, Invariants, Violation } from './invariants.ts';
import { disagreements, judgeQueues } from './judgements.ts';
import { Machine } from './machine.ts';
import { Nat } from './nat.ts';
import { endOf, type Plan, REGISTRY, type Step } from './plan.ts';
import { type Place, Pods } from './pods.ts';
import { Random } from './random.ts';
import { RegistryMachine } from './registry-machine.ts';
import { Scheduler } from './scheduler.ts';
import { SimulatedSigner } from './signer.ts';
import { toyPrimitives } from './toy-primitives.ts';
import { Trace } from './trace.ts';

/** Every pod reaches every other within this time after the last fault. */
export const CONVERGENCE_MS = 240_000;

const JUDGE_MS = 5000;
const PING_ALL_MS = 4000;
const LOOK_MS = 1000;

export interface Result {
  readonly plan: Plan;
  readonly violation:
    | { readonly invariant: Invariant; readonly message: string; readonly at: number }
    | undefined;
  /** The same for the same plan, always. */
  readonly hash: string;
  readonly events: number;
  /** Virtual milliseconds. */
  readonly time: number;
  /** From the end of the last fault, in virtual milliseconds. */
  readonly convergedAfter: number | undefined;
  readonly faults: Counters;
  readonly judged: Counters;
  readonly counters: Counters;
  /** The last lines of the trace. */
  readonly tail: readonly string[];
}

export const simulate = (plan: Plan, hooks: Partial<Hooks> = {}): Result =>
  new Simulation(plan, { ...NO_BUGS, ...hooks }).run();

export class Simulation {
  readonly plan: Plan;
  readonly trace = new Trace();
  readonly scheduler = new Scheduler(this.trace);
  readonly internet: Internet;
  readonly control: ControlPlane;
  readonly registry: RegistryMachine;
  readonly machines = new Map<string, Machine>();
  readonly pods: Pods;
  readonly invariants: Invariants;
  readonly counters = new Counters();
  readonly faults = new Counters();
  readonly #random: Random;
  readonly #hooks: Hooks;
  readonly #nats: Nat[];
  readonly #attacker: Attacker;
  #addresses = 0;
  /** What ends the faults that are under way. */
  readonly #endings = new Set<() => void>();

  constructor(plan: Plan, hooks: Hooks) {
    this.plan = plan;
    this.#hooks = hooks;
    const { scheduler, counters } = this;
    const random = new Random(`run ${plan.seed}`);
    this.#random = random;
    this.invariants = new Invariants(() => scheduler.now);
    this.internet = new Internet(scheduler, random.split('internet'));
    const signer = new SimulatedSigner(random.split('signer').bytes(32));
    this.registry = new RegistryMachine({
      scheduler,
      random: random.split('registry'),
      signer,
      invariants: this.invariants,
      counters,
      hooks,
    });
    this.internet.addHost(REGISTRY_HOST, { address: '11.255.0.1', nat: undefined }, 7443, () => undefined);
    this.control = new ControlPlane({
      scheduler,
      internet: this.internet,
      random: random.split('control plane'),
      registry: () => this.registry.process,
      enter: (work) => this.registry.enter(work),
      acknowledged: (revision) => this.invariants.acknowledged(revision),
    });
    this.#nats = plan.sites.map((kind, i) => new Nat(`12.0.0.${i + 1}`, kind, random.split(`nat ${i}`)));
    this.pods = new Pods({ scheduler, random: random.split('pods'), invariants: this.invariants, counters });
    for (const { name, site } of plan.nodes) this.#addMachine(name, this.#location(site), signer);
    this.#attacker = new Attacker(scheduler, this.internet, random.split('attacker'));
  }

  #addMachine(name: string, location: Location, signer: SimulatedSigner): void {
    const { scheduler, internet, control, counters, invariants } = this;
    const machine: Machine = new Machine(name, location, {
      scheduler,
      internet,
      control,
      signer,
      primitives: this.plan.usesToyPrimitives ? toyPrimitives : noblePrimitives,
      random: this.#random.split(`machine ${name}`),
      counters,
      hooks: this.#hooks,
      observer: {
        connected: (network, id, namespace, addresses) =>
          invariants.connected(name, network, id, namespace, addresses),
        disconnected: (network, _, addresses) => invariants.disconnected(network, addresses),
      },
      onStart: () => this.#judgeAttached(machine),
    });
    this.machines.set(name, machine);
  }

  #location(site: number | undefined): Location {
    const nat = site === undefined ? undefined : this.#nats[site];
    const number = ++this.#addresses;
    const host = `${Math.floor(number / 250)}.${(number % 250) + 1}`;
    return { address: nat === undefined ? `11.0.${host}` : `192.168.${host}`, nat };
  }

  run(): Result {
    const { scheduler, plan } = this;
    let violation: Result['violation'];
    let convergedAfter: number | undefined;
    try {
      this.#begin();
      for (const step of plan.steps) scheduler.at(step.at, describe(step), () => this.#carryOut(step));
      scheduler.runUntil(plan.steps.reduce((last, step) => Math.max(last, endOf(step)), 0));
      convergedAfter = this.#settle();
    } catch (error) {
      const invariant = error instanceof Violation ? error.invariant : 'no exception escapes';
      const text =
        error instanceof Violation ? error.message : String(error instanceof Error ? error.stack : error);
      violation = { invariant, message: text, at: scheduler.now };
      this.trace.note(scheduler.now, `violation of "${invariant}": ${text}`);
    }
    this.counters.addAll(this.internet.counters);
    this.counters.addAll(this.control.counters);
    return {
      plan,
      violation,
      hash: this.trace.hash,
      events: scheduler.executed,
      time: scheduler.now,
      convergedAfter,
      faults: this.faults,
      judged: this.invariants.judged,
      counters: this.counters,
      tail: this.trace.tail(60),
    };
  }

  #begin(): void {
    this.registry.start();
    for (const [i, network] of this.plan.networks.entries())
      this.registry.process?.createNetwork({
        name: network,
        // The same pool for all: networks share nothing.
        poolV4: '10.60.0.0/20',
        poolV6: 'fd00:60::/112',
        nodePrefixLengthV4: 29,
        nodePrefixLengthV6: 125,
        excluded: i === 0 ? ['10.60.0.4/32', 'fd00:60::8/126'] : [],
        mtu: 0,
      });
    for (const machine of this.machines.values()) machine.start();
    this.scheduler.every(JUDGE_MS, JUDGE_MS, 'judges', () => judgeQueues(this));
  }

  // --- faults

  #carryOut(step: Step): void {
    const { kind } = step;
    const machine = 'node' in step ? this.machines.get(step.node) : undefined;
    if (!/-pod$|^attach$|^detach$/.test(kind)) this.faults.add(kind);
    switch (kind) {
      case 'start-pod':
        if (machine !== undefined) this.pods.start(step.pod, machine, step.networks);
        break;
      case 'attach':
      case 'detach':
        this.pods.want(step.pod, step.network, kind === 'attach');
        break;
      case 'stop-pod':
        if (step.saysGoodbye) this.pods.stop(step.pod);
        else this.pods.vanish(step.pod);
        break;
      case 'kill-agent':
        machine?.kill();
        machine?.startLater();
        break;
      case 'crash-agent':
        if (machine?.agent !== undefined) machine.crash.arm(step.points);
        break;
      case 'crash-registry':
        if (this.registry.process !== undefined) this.registry.crash.arm(step.points);
        break;
      case 'halt-machine':
        if (machine === undefined) break;
        machine.halt();
        this.pods.machineHalted(machine);
        this.#during(step.forMs, `${step.node} boots`, () => machine.start());
        break;
      case 'kill-registry':
        this.registry.kill();
        this.#during(step.forMs, 'the registry starts again', () => this.registry.start());
        break;
      case 'partition':
        this.#partition(step.from, step.to, step.isOneWay, step.forMs);
        break;
      case 'weather':
        this.internet.weather = step.weather;
        this.#during(step.forMs, 'the weather clears', () => {
          this.internet.weather = FAIR_WEATHER;
        });
        break;
      case 'rebind-nat':
        this.#nats[step.site]?.rebind();
        break;
      case 'move':
        if (machine !== undefined) this.internet.move(step.node, this.#location(step.site));
        break;
      case 'fill-disk':
        this.#fillDisk(step.node, step.forMs);
        break;
      case 'set-clock':
        if (machine !== undefined) machine.clockOffset = step.aheadMs;
        break;
      case 'break-streams':
        this.control.breakStreams();
        break;
      case 'shrink-mtu':
        if (machine === undefined) break;
        this.internet.setMtu(step.node, step.mtu);
        this.#during(step.forMs, `${step.node} has its MTU again`, () =>
          this.internet.setMtu(step.node, 1500),
        );
        break;
      case 'attack':
        this.#attacker.attack(this.scheduler.now + step.forMs);
        break;
      case 'back-up-registry':
        this.registry.backUp();
        break;
      case 'restore-registry':
        this.registry.restore();
        break;
    }
  }

  #partition(from: readonly string[], to: readonly string[], isOneWay: boolean, forMs: number): void {
    const pairs = from.flatMap((a) =>
      to.flatMap((b) =>
        isOneWay
          ? [[a, b]]
          : [
              [a, b],
              [b, a],
            ],
      ),
    );
    for (const [a = '', b = ''] of pairs) this.internet.block(a, b);
    this.#during(forMs, 'a partition heals', () => {
      for (const [a = '', b = ''] of pairs) this.internet.unblock(a, b);
    });
  }

  #fillDisk(node: string, forMs: number): void {
    const disk = node === REGISTRY ? this.registry.disk : this.machines.get(node)?.disk;
    if (disk === undefined) return;
    disk.isFull = true;
    this.#during(forMs, `the disk of ${node} has space again`, () => {
      disk.isFull = false;
    });
  }

  #during(forMs: number, label: string, end: () => void): void {
    const ending = (): void => {
      if (this.#endings.delete(ending)) end();
    };
    this.#endings.add(ending);
    this.scheduler.after(forMs, label, ending);
  }

  // --- the end

  /** Ends every fault and waits for the pods to reach each other. Answers how long that took. */
  #settle(): number {
    const { scheduler, registry, pods } = this;
    for (const ending of [...this.#endings]) ending();
    registry.crash.disarm();
    for (const machine of this.machines.values()) machine.crash.disarm();
    const begun = scheduler.now;
    const pings = scheduler.every(PING_ALL_MS, 0, 'everybody pings everybody', () => pods.pingAll());
    for (;;) {
      scheduler.runUntil(scheduler.now + LOOK_MS);
      const elapsed = scheduler.now - begun;
      const missing = this.#missing(begun);
      const left = missing.length === 0 ? disagreements(this) : [];
      if (missing.length + left.length === 0) {
        pings.cancel();
        return elapsed;
      }
      const invariant = missing.length > 0 ? 'convergence' : 'no leftovers';
      const message = (): string =>
        `${CONVERGENCE_MS / 1000} s after the last fault: ${[...missing, ...left].slice(0, 5).join('; ')}`;
      this.invariants.judge(invariant, elapsed < CONVERGENCE_MS, message);
    }
  }

  /** What is not yet as it should be. */
  #missing(since: number): string[] {
    const { pods, internet } = this;
    const missing: string[] = [];
    const name = ({ pod }: Place): string => `${pod.name} on ${pod.machine.name}`;
    for (const pod of pods.all)
      for (const place of pod.places.values())
        if (place.isWanted !== (place.acknowledged !== undefined) || (!place.isWanted && place.mayExist))
          missing.push(`${name(place)} is not ${place.isWanted ? 'on' : 'off'} ${place.network}`);
    for (const network of this.plan.networks) {
      const places = pods.on(network);
      for (const from of places)
        for (const to of places) {
          if (from === to || pods.answeredAt(network, from.pod.name, to.pod.name) >= since) continue;
          if (!internet.canMeet(from.pod.machine.name, to.pod.machine.name)) continue;
          missing.push(`${name(from)} does not reach ${name(to)} on ${network}`);
        }
    }
    return missing;
  }

  /** What an agent said is attached must be so after each of its starts. */
  #judgeAttached(machine: Machine): void {
    for (const pod of this.pods.all) {
      if (pod.machine !== machine) continue;
      for (const { network, acknowledged } of pod.places.values()) {
        if (acknowledged === undefined) continue;
        const found = [...machine.kernel.interfaces(network).values()].find(
          ({ namespace }) => namespace === pod.namespace,
        );
        this.invariants.judge(
          'no acknowledged write lost',
          found?.addresses.join() === acknowledged.join(),
          () =>
            `${pod.name} was told it is on ${network} as ${acknowledged.join(', ')}, and after a start of its agent it is ${found?.addresses.join(', ') ?? 'not there'}`,
        );
      }
    }
  }
}

const describe = ({ at: _, ...step }: Step): string => JSON.stringify(step);
