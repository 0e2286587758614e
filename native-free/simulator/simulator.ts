// The whole world of one plan: machines, a registry, the internet between them, the workload and the faults. Runs to the
// end of the plan, ends all faults, and waits until every pod of a network reaches every other that it can. One plan gives
// one trace.

import { parsePrefix, prefixesOverlap } from '../ipam/prefix.ts';
import { noblePrimitives } from '../noise/noble-primitives.ts';
import { nodeNameOf } from '../registry/foreign-key.ts';
import { leaseTerms } from '../registry/lease-terms.ts';
import { Admins } from './admins.ts';
import { AdmissionJudge } from './admission-judge.ts';
import type { Withdrawal } from './agent-context.ts';
import { Attacker } from './attacker.ts';
import { Calm } from './calm.ts';
import { judgeComingBack } from './coming-back.ts';
import { Continuity } from './continuity.ts';
import { ControlPlane, REGISTRY_HOST } from './control-plane.ts';
import { Counters } from './counters.ts';
import { judgeAttached, missingSince } from './expectations.ts';
import { Faults } from './faults.ts';
import { type Hooks, NO_BUGS } from './hooks.ts';
import { Internet, type Location } from './internet.ts';
import { type Invariant, Invariants, Violation } from './invariants.ts';
import { disagreements, judgePrefixes, judgeQueues, judgeWork } from './judgements.ts';
import { Machine } from './machine.ts';
import { Nat } from './nat.ts';
import { Operator } from './operator.ts';
import { PACES } from './pace.ts';
import { Partner } from './partner.ts';
import { endOf, type NodePlan, type Plan, type Step } from './plan.ts';
import { Pods } from './pods.ts';
import { Random } from './random.ts';
import { RegistryMachine } from './registry-machine.ts';
import { Scheduler } from './scheduler.ts';
import { SimulatedSigner, TRUST_DOMAIN } from './signer.ts';
import { toyPrimitives } from './toy-primitives.ts';
import { Trace } from './trace.ts';

/** With more, prefixes are judged now and then, and not at each attachment too. */
const FEW_MACHINES = 10;
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
  readonly scheduler = new Scheduler(this.trace, (message) => {
    throw new Violation('no livelock', message);
  });
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
  readonly #continuity: Continuity;
  readonly #calm: Calm;
  readonly #signers = new Map<string, SimulatedSigner>();
  readonly #partner: Partner | undefined;
  readonly #admins: Admins;
  readonly admission: AdmissionJudge;
  #addresses = 0;
  #isSettling = false;
  readonly #operator: Operator;
  readonly #faults: Faults;

  constructor(plan: Plan, hooks: Hooks) {
    this.plan = plan;
    this.#hooks = hooks;
    const { scheduler, counters } = this;
    const pace = PACES[plan.pace];
    const random = new Random(`run ${plan.seed}`);
    this.#random = random;
    const { quarantineMs } = leaseTerms(plan.outageBudgetMs);
    this.invariants = new Invariants(
      () => scheduler.now,
      (node, network, what) => this.#uses(node, network, what),
      quarantineMs,
    );
    this.internet = new Internet(scheduler, random.split('internet'));
    const signer = new SimulatedSigner(random.split('signer').bytes(32));
    this.#signers.set(TRUST_DOMAIN, signer);
    this.#calm = new Calm(() => scheduler.now, Math.max(60_000, 4 * pace.heartbeatMs));
    this.admission = new AdmissionJudge({
      now: () => scheduler.now,
      invariants: this.invariants,
      registry: () => this.registry,
      pods: () => this.pods,
      machines: this.machines,
      calm: this.#calm,
      promisedMs: 2 * pace.heartbeatMs,
    });
    this.invariants.watcher = this.admission;
    this.registry = new RegistryMachine({
      scheduler,
      random: random.split('registry'),
      signer,
      signers: this.#signers,
      invariants: this.invariants,
      counters,
      hooks,
      pace,
      outageBudgetMs: plan.outageBudgetMs,
    });
    this.internet.addHost(REGISTRY_HOST, { address: '11.255.0.1', nat: undefined }, 7443, () => true);
    this.control = new ControlPlane({
      host: REGISTRY_HOST,
      scheduler,
      internet: this.internet,
      random: random.split('control plane'),
      silenceMs: pace.silenceMs,
      registry: () => this.registry.process,
      enter: (work) => this.registry.enter(work),
      acknowledged: (revision) => this.invariants.acknowledged(revision),
    });
    const hasPartner = plan.nodes.some(({ isForeign }) => isForeign === true);
    const { outageBudgetMs } = plan;
    const world = { scheduler, internet: this.internet, signers: this.#signers, counters, hooks, pace };
    this.#partner = hasPartner
      ? new Partner({ ...world, random: random.split('partner'), outageBudgetMs })
      : undefined;
    this.#nats = plan.sites.map((kind, i) => new Nat(`12.0.${i}`, kind, random.split(`nat ${i}`)));
    this.#continuity = new Continuity({
      scheduler,
      invariants: this.invariants,
      isBeyondBudget: (machine) => this.isBeyondBudget(machine),
    });
    this.pods = new Pods({
      scheduler,
      random: random.split('pods'),
      invariants: this.invariants,
      counters,
      pace,
      continuity: this.#continuity,
      onChanged: () => this.admission.changed(),
      onDelivered: (from, to, network) => this.admission.delivered(from, to, network),
    });
    for (const node of plan.nodes) this.#addMachine(node);
    this.#attacker = new Attacker(scheduler, this.internet, random.split('attacker'));
    const shared = { registry: this.registry, machines: this.machines, pods: this.pods };
    this.#operator = new Operator({
      ...shared,
      registryOf: ({ trustDomain }) =>
        trustDomain === TRUST_DOMAIN ? this.registry : (this.#partner?.registry ?? this.registry),
      random: random.split('operator'),
      invariants: this.invariants,
      counters,
      networks: plan.networks,
      isEnd: () => this.#isSettling,
    });
    this.#admins = new Admins({
      registry: this.registry,
      partner: this.#partner,
      internet: this.internet,
      invariants: this.invariants,
      counters,
      networks: plan.networks.slice(0, 1),
    });
    this.#faults = new Faults({
      ...shared,
      scheduler,
      internet: this.internet,
      control: this.control,
      nats: this.#nats,
      attacker: this.#attacker,
      operator: this.#operator,
      admins: this.#admins,
      partner: this.#partner,
      calm: this.#calm,
      continuity: this.#continuity,
      counters: this.faults,
      location: (site) => this.#location(site),
    });
  }

  /** Whether the machine had no word of its leases, or of its peers, for longer than is promised. */
  isBeyondBudget(machine: string): boolean {
    return this.#isOutage(this.control.watchGaps.longest(machine)) || this.#couldNotRenew(machine);
  }

  #couldNotRenew(machine: string): boolean {
    return this.#isOutage(this.machines.get(machine)?.renewals.outage ?? 0);
  }

  /** As near as heartbeats can tell. */
  #isOutage(ms: number): boolean {
    const { outageBudgetMs, pace } = this.plan;
    return ms > outageBudgetMs - 3 * PACES[pace].heartbeatMs - 10_000;
  }

  /** Only what could not be renewed for longer than is promised may be taken down, and what the registry gave to others. */
  #judgeWithdrawn(machine: Machine, network: string, why: Withdrawal): void {
    this.counters.add(`attachments withdrawn: ${why}`);
    this.invariants.judge(
      'no outage stops anything',
      why !== 'ended' || this.#couldNotRenew(machine.name),
      () =>
        `${machine.name} takes down what is on ${network}, and could not renew for only ${machine.renewals.outage / 1000} s`,
    );
  }

  #addMachine({ name, site, isForeign = false, isRogue = false }: NodePlan): void {
    const { scheduler, internet, control, counters, invariants } = this;
    const partner = isForeign ? this.#partner : undefined;
    const machine: Machine = new Machine(name, this.#location(site), {
      scheduler,
      internet,
      control,
      own: partner?.control ?? control,
      signers: this.#signers,
      trustDomain: partner?.signer.trustDomain ?? TRUST_DOMAIN,
      isRogue,
      primitives: this.plan.usesToyPrimitives ? toyPrimitives : noblePrimitives,
      random: this.#random.split(`machine ${name}`),
      counters,
      hooks: this.#hooks,
      pace: PACES[this.plan.pace],
      observer: {
        connected: (network, id, namespace, addresses) => {
          if (this.machines.size <= FEW_MACHINES) judgePrefixes(this);
          invariants.connected(machine.key, network, id, namespace, addresses);
        },
        disconnected: (network, id, addresses) => invariants.disconnected(network, id, addresses),
      },
      onWithdrawn: (network, namespace, why) => {
        this.#judgeWithdrawn(machine, network, why);
        this.pods.withdrawn(namespace, network);
      },
      onStart: () => {
        this.#continuity.disturbed();
        this.#calm.disturbed();
        judgeAttached(this, machine);
      },
    });
    this.machines.set(name, machine);
  }

  #uses(node: string, network: string, what: string): boolean {
    const machine = this.machines.get(nodeNameOf(node).node);
    // What is off or asleep uses nothing, and looks at its clock before it does again.
    if (machine === undefined || machine.isLost || machine.isDeleted || machine.isExpelled) return false;
    if (machine.agent === undefined) return false;
    if (machine.freezer.isFrozen) return false;
    const asked = parsePrefix(what.includes('/') ? what : `${what}/${what.includes(':') ? 128 : 32}`);
    return machine.usable(network).some((prefix) => prefixesOverlap(parsePrefix(prefix), asked));
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
      for (const step of plan.steps) scheduler.at(step.at, describe(step), () => this.#faults.carryOut(step));
      scheduler.runUntil(plan.steps.reduce((last, step) => Math.max(last, endOf(step)), 0));
      convergedAfter = this.#settle();
      judgeComingBack(this);
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
    this.#partner?.registry.start();
    this.#operator.createNetworks();
    for (const machine of this.machines.values()) {
      this.#operator.equip(machine);
      machine.start();
    }
    const { judgeMs } = PACES[this.plan.pace];
    let looked = 0;
    this.scheduler.every(judgeMs, judgeMs, 'judges', () => {
      judgeWork(this, this.scheduler.executed - looked);
      looked = this.scheduler.executed;
      judgeQueues(this);
      judgePrefixes(this);
      this.admission.judge();
    });
    const { operatorMs } = PACES[this.plan.pace];
    this.scheduler.every(operatorMs, operatorMs, 'people look', () => {
      this.#operator.look();
      this.#admins.look();
    });
    if (this.#partner === undefined) return;
    const { pollMs } = PACES[this.plan.pace];
    this.scheduler.every(pollMs, pollMs, 'registries ask each other', () => this.#admins.poll());
  }

  // --- the end

  /** Ends every fault and waits for the pods to reach each other. Answers how long that took. */
  #settle(): number {
    const { scheduler, pods } = this;
    const { convergenceMs, pingAllMs } = PACES[this.plan.pace];
    this.#faults.endAll();
    const begun = scheduler.now;
    this.#isSettling = true;
    const pings = scheduler.every(pingAllMs, 0, 'everybody pings everybody', () => pods.pingAll());
    for (;;) {
      scheduler.runUntil(scheduler.now + LOOK_MS);
      const elapsed = scheduler.now - begun;
      const missing = missingSince(this, begun);
      const left = missing.length === 0 ? disagreements(this) : [];
      if (missing.length + left.length === 0) {
        pings.cancel();
        return elapsed;
      }
      const invariant = missing.length > 0 ? 'convergence' : 'no leftovers';
      const message = (): string =>
        `${convergenceMs / 1000} s after the last fault: ${[...missing, ...left].slice(0, 5).join('; ')}`;
      this.invariants.judge(invariant, elapsed < convergenceMs, message);
    }
  }
}

const describe = ({ at: _, ...step }: Step): string => JSON.stringify(step);
