// The people: an admin who makes tokens, deletes nodes, changes networks and brings the registry back from a backup, and
// each machine's operator, who enrols it anew when its SVID is not accepted any more. They look now and then, and act
// only when the registry runs.

import { Vl3Error } from '../error.ts';
import type { Counters } from './counters.ts';
import type { Invariants } from './invariants.ts';
import type { Machine } from './machine.ts';
import type { Pods } from './pods.ts';
import type { Random } from './random.ts';
import type { RegistryMachine } from './registry-machine.ts';

export interface OperatorDependencies {
  readonly random: Random;
  readonly registry: RegistryMachine;
  /** By whom the machine's nodes are enrolled. */
  readonly registryOf: (machine: Machine) => RegistryMachine;
  readonly machines: ReadonlyMap<string, Machine>;
  readonly pods: Pods;
  readonly invariants: Invariants;
  readonly counters: Counters;
  readonly networks: readonly string[];
  /** All faults are over. */
  readonly isEnd: () => boolean;
}

export class Operator {
  readonly #dependencies: OperatorDependencies;
  /** Whose SVID was refused when somebody last looked. */
  #refused = new Set<string>();

  constructor(dependencies: OperatorDependencies) {
    this.#dependencies = dependencies;
  }

  /** A machine's first token. */
  equip(machine: Machine): void {
    machine.token = this.#makeToken(machine) ?? '';
  }

  /** Those that the registry does not have. */
  createNetworks(): void {
    for (const [i, network] of this.#dependencies.networks.entries())
      this.#ask(() =>
        this.#dependencies.registry.process?.createNetwork({
          name: network,
          // The same pool for all: networks share nothing.
          poolV4: '10.60.0.0/20',
          poolV6: 'fd00:60::/112',
          nodePrefixLengthV4: 29,
          nodePrefixLengthV6: 125,
          excluded: i === 0 ? ['10.60.0.4/32', 'fd00:60::8/126'] : [],
          mtu: 0,
        }),
      );
  }

  /** Ends a recovery once every machine that may hold something has spoken, and then makes what networks are missing. */
  #settle(): void {
    const { registry, machines, counters } = this.#dependencies;
    const running = registry.process;
    if (running === undefined) return;
    if (!running.isRecovering) {
      this.createNetworks();
      return;
    }
    const { reported } = running;
    const silent = [...machines.values()].filter(
      (machine) =>
        !machine.isLost && !machine.isDeleted && machine.holdsSomething && !reported.has(machine.name),
    );
    if (silent.length === 0 && this.#ask(() => running.settle()))
      counters.add('recoveries settled by an admin');
  }

  /** Settles a recovery, and enrols anew whom the registry still refuses since the last look. */
  look(): void {
    this.#settle();
    const before = this.#refused;
    this.#refused = new Set();
    for (const machine of this.#dependencies.machines.values()) {
      if (machine.agent?.refusal === undefined || machine.isDeleted || machine.freezer.isFrozen) continue;
      this.#refused.add(machine.name);
      if (before.has(machine.name)) this.#enrolAnew(machine);
    }
  }

  #enrolAnew(machine: Machine): void {
    const token = this.#makeToken(machine);
    if (token === undefined) return;
    this.#dependencies.counters.add('nodes enrolled anew');
    machine.enrolAnew(token);
  }

  deleteNode(machine: Machine): void {
    const { registry, counters, invariants } = this.#dependencies;
    if (machine.isDeleted || machine.isLost || machine.agent === undefined) return;
    const running = registry.process;
    if (running === undefined) return;
    // Also when it fails or is cut off: from the moment the admin decides, what the node holds is nobody's.
    machine.isDeleted = true;
    invariants.deleted(machine.name);
    if (this.#ask(() => running.deleteNode(machine.name))) counters.add('nodes deleted');
  }

  /** What the admin deleted is cleaned and begins anew. */
  cleanDeleted(machine: Machine): void {
    if (!machine.isDeleted || machine.isLost) return;
    const { pods, invariants } = this.#dependencies;
    machine.clean();
    invariants.cleaned(machine.name);
    pods.machineCleaned(machine);
    const token = this.#makeToken(machine);
    if (token !== undefined) machine.token = token;
    machine.startLater();
  }

  exclude(network: string, excluded: readonly string[]): void {
    this.#ask(() => this.#dependencies.registry.process?.exclude(network, excluded));
  }

  /** Somebody else has a token that was used: it must admit nobody. */
  reuseToken(machine: Machine): void {
    const { registry, invariants } = this.#dependencies;
    if (registry.process === undefined || machine.agent?.isEnrolled !== true) return;
    let admitted = false;
    for (const node of [machine.name, 'intruder'])
      this.#ask(() => {
        registry.process?.enroll(node, machine.token, 'key of somebody else');
        admitted = true;
      });
    invariants.judge(
      'no token twice',
      !admitted,
      () => `the token that ${machine.name} enrolled with admitted somebody else`,
    );
  }

  #makeToken(machine: Machine): string | undefined {
    const registry = this.#dependencies.registryOf(machine);
    const secret = [...this.#dependencies.random.bytes(32)]
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('');
    return this.#ask(() => registry.process?.createToken(secret, machine.name), registry)
      ? secret
      : undefined;
  }

  /** True when the registry did it. */
  #ask(work: () => void, registry = this.#dependencies.registry): boolean {
    if (registry.process === undefined) return false;
    return (
      registry.enter(() => {
        try {
          work();
          return true;
        } catch (error) {
          if (!(error instanceof Vl3Error)) throw error;
          return false;
        }
      }) ?? false
    );
  }
}
