// The machine the registry runs on: its disk, and at most one process, which dies and comes back.

import { Vl3Error } from '../error.ts';
import type { Counters } from './counters.ts';
import { Crash, CrashSwitch } from './crash.ts';
import { Disk, type DiskImage } from './disk.ts';
import { restoredImage } from './durable-store.ts';
import type { Hooks } from './hooks.ts';
import type { Invariants } from './invariants.ts';
import { EPOCH } from './machine.ts';
import type { Pace } from './pace.ts';
import type { Random } from './random.ts';
import { RegistryProcess } from './registry.ts';
import type { Scheduler, Timer } from './scheduler.ts';
import type { SimulatedSigner } from './signer.ts';

const RESTART_MS: readonly [number, number] = [200, 5000];

export interface RegistryMachineDependencies {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly signer: SimulatedSigner;
  readonly signers: ReadonlyMap<string, SimulatedSigner>;
  readonly invariants: Invariants;
  readonly counters: Counters;
  readonly hooks: Hooks;
  readonly pace: Pace;
  readonly outageBudgetMs: number;
}

export class RegistryMachine {
  readonly crash = new CrashSwitch();
  readonly disk: Disk;
  process: RegistryProcess | undefined;
  /** Milliseconds that this machine's wall clock is ahead. */
  clockOffset = 0;
  readonly #dependencies: RegistryMachineDependencies;
  #restart: Timer | undefined;
  #backup: DiskImage | undefined;
  #hasCa = false;
  #restores = 0;

  constructor(dependencies: RegistryMachineDependencies) {
    this.#dependencies = dependencies;
    this.disk = new Disk(dependencies.random.split('disk'), this.crash);
  }

  /** Unix ms by this machine's clock. */
  get wall(): number {
    return EPOCH + Math.floor(this.#dependencies.scheduler.now + this.clockOffset);
  }

  start(): void {
    if (this.process !== undefined) return;
    this.#restart?.cancel();
    try {
      this.#run();
    } catch (error) {
      if (!(error instanceof Crash || error instanceof Vl3Error)) throw error;
      this.#dependencies.counters.add('registries that could not start');
      this.kill();
      this.startLater();
    }
  }

  #run(): RegistryProcess {
    const { scheduler, random, signer, signers, invariants, hooks } = this.#dependencies;
    const running = new RegistryProcess({
      disk: this.disk,
      scheduler,
      random,
      signer,
      signers,
      wall: () => this.wall,
      outageBudgetMs: this.#dependencies.outageBudgetMs,
      pace: this.#dependencies.pace,
      hasCa: this.#hasCa,
      observer: invariants,
      enter: (work) => this.enter(work),
      hooks,
    });
    this.process = running;
    this.#hasCa = true;
    return running;
  }

  kill(): void {
    this.process?.died();
    this.process = undefined;
    this.#restart?.cancel();
    this.crash.disarm();
    this.disk.crashed();
  }

  startLater(): void {
    const { scheduler, random } = this.#dependencies;
    this.#restart?.cancel();
    this.#restart = scheduler.after(random.between(...RESTART_MS), 'the registry starts', () => this.start());
  }

  /** Runs work of the process; undefined when it died of it, or is dead. */
  enter<T>(work: () => T): T | undefined {
    if (this.process === undefined) return undefined;
    try {
      return work();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.#dependencies.counters.add(`registry crashes at ${error.message.slice('died at '.length)}`);
      this.kill();
      this.startLater();
      return undefined;
    }
  }

  backUp(): void {
    this.#backup = this.disk.backup();
  }

  /** An admin puts the backup in the place of the store. */
  replace(how: 'restore-registry' | 'roll-back-registry' | 'empty-registry'): void {
    const backup = how === 'empty-registry' ? new Map() : this.#backup;
    if (backup === undefined) return;
    this.kill();
    const identity = `restored-${++this.#restores}`;
    this.disk.restore(how === 'restore-registry' ? restoredImage(backup, identity) : backup);
    this.#dependencies.invariants.replaced();
    this.start();
  }
}
