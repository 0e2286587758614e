// Carries out the steps of a plan: the workload's and the faults, and ends what lasts.

import type { Admins } from './admins.ts';
import type { Attacker } from './attacker.ts';
import type { Calm } from './calm.ts';
import type { Continuity } from './continuity.ts';
import { type ControlPlane, REGISTRY_HOST } from './control-plane.ts';
import type { Counters } from './counters.ts';
import { FAIR_WEATHER, type Internet, type Location } from './internet.ts';
import type { Machine } from './machine.ts';
import type { Nat } from './nat.ts';
import type { Operator } from './operator.ts';
import type { Partner } from './partner.ts';
import { REGISTRY, type Step } from './plan.ts';
import type { Pods } from './pods.ts';
import type { RegistryMachine } from './registry-machine.ts';
import type { Scheduler } from './scheduler.ts';

export interface FaultsDependencies {
  readonly scheduler: Scheduler;
  readonly internet: Internet;
  readonly control: ControlPlane;
  readonly registry: RegistryMachine;
  readonly machines: ReadonlyMap<string, Machine>;
  readonly nats: readonly Nat[];
  readonly pods: Pods;
  readonly attacker: Attacker;
  readonly operator: Operator;
  readonly admins: Admins;
  readonly partner: Partner | undefined;
  readonly calm: Calm;
  readonly continuity: Continuity;
  readonly counters: Counters;
  /** A place on the internet, at a site or not. */
  readonly location: (site: number | undefined) => Location;
}

/** What may stop traffic, and what must not: everything else. */
const DISTURBING: ReadonlySet<Step['kind']> = new Set([
  'kill-agent',
  'crash-agent',
  'halt-machine',
  'lose-machine',
  'stop-agent',
  'suspend-machine',
  'partition',
  'weather',
  'rebind-nat',
  'move',
  'fill-disk',
  'shrink-mtu',
  'attack',
  'delete-node',
]);
const WORKLOAD = /-pod$|^attach$|^detach$/;
/** What may be decided at any time, and counts within seconds. */
const DECISIONS = /^label$|-rule$|-partner$|^pretend$/;

export class Faults {
  readonly #dependencies: FaultsDependencies;
  /** What ends the faults that are under way. */
  readonly #endings = new Set<() => void>();
  /** The step that is carried out may stop traffic. */
  #isDisturbing = false;

  constructor(dependencies: FaultsDependencies) {
    this.#dependencies = dependencies;
  }

  /** Ends every fault that lasts. */
  endAll(): void {
    for (const ending of [...this.#endings]) ending();
    const { registry, machines } = this.#dependencies;
    registry.crash.disarm();
    for (const machine of machines.values()) machine.crash.disarm();
  }

  carryOut(step: Step): void {
    const { counters, continuity, calm } = this.#dependencies;
    if (!WORKLOAD.test(step.kind) && !DECISIONS.test(step.kind)) calm.disturbed();
    if (!WORKLOAD.test(step.kind)) counters.add(step.kind);
    this.#isDisturbing = DISTURBING.has(step.kind);
    if (this.#isDisturbing) continuity.disturbed();
    if (this.#decision(step) || this.#work(step) || this.#process(step) || this.#underlay(step)) return;
    this.#people(step);
  }

  #decision(step: Step): boolean {
    const { admins, pods, partner } = this.#dependencies;
    switch (step.kind) {
      case 'label':
        pods.label(step.pod, step.labels);
        return true;
      case 'create-rule':
        admins.createRule(step.network, step.rule, step.plan);
        return true;
      case 'delete-rule':
        admins.deleteRule(step.network, step.rule);
        return true;
      case 'invite-partner':
        admins.invite();
        return true;
      case 'revoke-partner':
        admins.revoke();
        return true;
      case 'rotate-ca':
        admins.rotate();
        return true;
      case 'kill-partner':
        partner?.registry.kill();
        this.#during(step.forMs, "the partner's registry starts again", () => partner?.registry.start());
        return true;
      case 'pretend':
        admins.pretend(step.node);
        return true;
      default:
        return false;
    }
  }

  #work(step: Step): boolean {
    const { pods, machines } = this.#dependencies;
    switch (step.kind) {
      case 'start-pod': {
        const machine = machines.get(step.node);
        if (machine !== undefined && !machine.isLost) pods.start(step.pod, machine, step.networks);
        return true;
      }
      case 'attach':
      case 'detach':
        pods.want(step.pod, step.network, step.kind === 'attach');
        return true;
      case 'stop-pod':
        if (step.saysGoodbye) pods.stop(step.pod);
        else pods.vanish(step.pod);
        return true;
      default:
        return false;
    }
  }

  // --- processes, machines, disks and clocks

  #process(step: Step): boolean {
    const { registry } = this.#dependencies;
    switch (step.kind) {
      case 'kill-registry':
        registry.kill();
        this.#during(step.forMs, 'the registry starts again', () => registry.start());
        return true;
      case 'crash-registry':
        if (registry.process !== undefined) registry.crash.arm(step.points);
        return true;
      case 'fill-disk':
        this.#fillDisk(step.node, step.forMs);
        return true;
      case 'set-clock':
        this.#setClock(step.node, step.aheadMs);
        return true;
      case 'jump-clock':
        this.#setClock(step.node, step.aheadMs);
        this.#dependencies.machines.get(step.node)?.renewals.clockWentWrong();
        this.#during(step.forMs, `the clock of ${step.node} is right again`, () => {
          this.#setClock(step.node, 0);
          this.#dependencies.machines.get(step.node)?.renewals.clockWasSet();
        });
        return true;
      default:
        return 'node' in step && this.#machine(step, this.#dependencies.machines.get(step.node));
    }
  }

  #machine(step: Step, machine: Machine | undefined): boolean {
    const { pods } = this.#dependencies;
    if (machine === undefined || machine.isLost) return true;
    switch (step.kind) {
      case 'kill-agent':
        if (machine.freezer.isAsleep) return true;
        machine.kill();
        machine.startLater();
        return true;
      case 'crash-agent':
        if (machine.agent !== undefined) machine.crash.arm(step.points);
        return true;
      case 'halt-machine':
        machine.halt();
        pods.machineHalted(machine);
        this.#during(step.forMs, `${machine.name} boots`, () => machine.boot());
        return true;
      case 'lose-machine':
        machine.halt();
        machine.isLost = true;
        machine.lostAt = this.#dependencies.scheduler.now;
        pods.machineHalted(machine);
        return true;
      case 'stop-agent':
      case 'suspend-machine':
        if (machine.freezer.isFrozen || (step.kind === 'stop-agent' && machine.agent === undefined))
          return true;
        machine.renewals.began();
        machine.freezer.freeze(step.kind === 'stop-agent' ? 'stopped' : 'asleep');
        this.#during(step.forMs, `${machine.name} goes on`, () => {
          if (machine.freezer.isFrozen) machine.freezer.thaw();
        });
        return true;
      default:
        return false;
    }
  }

  #setClock(node: string, aheadMs: number): void {
    const { registry, machines } = this.#dependencies;
    if (node === REGISTRY) registry.clockOffset = aheadMs;
    else {
      const machine = machines.get(node);
      if (machine !== undefined) machine.clockOffset = aheadMs;
    }
  }

  #fillDisk(node: string, forMs: number): void {
    const { registry, machines } = this.#dependencies;
    const disk = node === REGISTRY ? registry.disk : machines.get(node)?.disk;
    if (disk === undefined) return;
    disk.isFull = true;
    this.#during(forMs, `the disk of ${node} has space again`, () => {
      disk.isFull = false;
    });
  }

  // --- the underlay

  #underlay(step: Step): boolean {
    const { internet, nats, control, attacker, scheduler, location } = this.#dependencies;
    switch (step.kind) {
      case 'partition':
        this.#partition(step.from, step.to, step.isOneWay, step.forMs);
        return true;
      case 'cut-registry':
        this.#partition(step.nodes, [REGISTRY_HOST], step.isOneWay, step.forMs);
        return true;
      case 'weather':
        internet.weather = step.weather;
        this.#during(step.forMs, 'the weather clears', () => {
          internet.weather = FAIR_WEATHER;
        });
        return true;
      case 'rebind-nat':
        nats[step.site]?.rebind(step.address);
        return true;
      case 'move':
        internet.move(step.node, location(step.site));
        return true;
      case 'break-streams':
        control.breakStreams();
        return true;
      case 'shrink-mtu':
        internet.setMtu(step.node, step.mtu);
        this.#during(step.forMs, `${step.node} has its MTU again`, () => internet.setMtu(step.node, 1500));
        return true;
      case 'attack':
        attacker.attack(scheduler.now + step.forMs);
        this.#during(step.forMs, 'the attacker is done', () => undefined);
        return true;
      case 'flood':
        attacker.flood(step.node, scheduler.now + step.forMs);
        return true;
      default:
        return false;
    }
  }

  #partition(from: readonly string[], to: readonly string[], isOneWay: boolean, forMs: number): void {
    const { internet } = this.#dependencies;
    const oneWay = from.flatMap((a) => to.map((b) => [a, b] as const));
    const pairs = isOneWay ? oneWay : oneWay.flatMap(([a, b]) => [[a, b] as const, [b, a] as const]);
    for (const [a, b] of pairs) internet.block(a, b);
    this.#during(forMs, 'a partition heals', () => {
      for (const [a, b] of pairs) internet.unblock(a, b);
    });
  }

  // --- people

  #people(step: Step): void {
    const { operator, registry, machines } = this.#dependencies;
    const machine = 'node' in step ? machines.get(step.node) : undefined;
    switch (step.kind) {
      case 'delete-node':
        if (machine === undefined) return;
        operator.deleteNode(machine);
        this.#during(step.forMs, `${machine.name} is cleaned`, () => operator.cleanDeleted(machine));
        return;
      case 'reuse-token':
        if (machine !== undefined) operator.reuseToken(machine);
        return;
      case 'exclude':
        operator.exclude(step.network, step.excluded);
        return;
      case 'back-up-registry':
        registry.backUp();
        return;
      case 'restore-registry':
      case 'roll-back-registry':
      case 'empty-registry':
        registry.replace(step.kind);
        return;
    }
  }

  #during(forMs: number, label: string, end: () => void): void {
    const { scheduler, continuity, calm: everything } = this.#dependencies;
    const calm = this.#isDisturbing ? continuity.begin() : () => undefined;
    const allCalm = everything.begin();
    const ending = (): void => {
      if (!this.#endings.delete(ending)) return;
      calm();
      allCalm();
      end();
    };
    this.#endings.add(ending);
    scheduler.after(forMs, label, ending);
  }
}
