// Another company in the simulated world: a registry of its own, which issues its nodes' SVIDs and tells them whom it is
// federated with. It has no networks; its nodes come to those of the home.

import { ControlPlane, PARTNER_HOST } from './control-plane.ts';
import type { Counters } from './counters.ts';
import type { Hooks } from './hooks.ts';
import type { Internet } from './internet.ts';
import { Invariants } from './invariants.ts';
import type { Pace } from './pace.ts';
import type { Random } from './random.ts';
import { RegistryMachine } from './registry-machine.ts';
import type { Scheduler } from './scheduler.ts';
import { PARTNER_DOMAIN, SimulatedSigner } from './signer.ts';

export interface PartnerDependencies {
  readonly scheduler: Scheduler;
  readonly internet: Internet;
  readonly random: Random;
  readonly signers: Map<string, SimulatedSigner>;
  readonly counters: Counters;
  readonly hooks: Hooks;
  readonly pace: Pace;
  readonly outageBudgetMs: number;
}

export class Partner {
  readonly signer: SimulatedSigner;
  readonly registry: RegistryMachine;
  readonly control: ControlPlane;

  constructor(dependencies: PartnerDependencies) {
    const { scheduler, internet, random, signers, pace } = dependencies;
    const signer = new SimulatedSigner(random.split('signer').bytes(32), PARTNER_DOMAIN);
    signers.set(PARTNER_DOMAIN, signer);
    this.signer = signer;
    this.registry = new RegistryMachine({
      ...dependencies,
      random: random.split('registry'),
      signer,
      invariants: new Invariants(
        () => scheduler.now,
        () => false,
        0,
      ),
    });
    internet.addHost(PARTNER_HOST, { address: '11.255.0.2', nat: undefined }, 7443, () => true);
    this.control = new ControlPlane({
      host: PARTNER_HOST,
      scheduler,
      internet,
      random: random.split('control plane'),
      silenceMs: pace.silenceMs,
      registry: () => this.registry.process,
      enter: (work) => this.registry.enter(work),
      acknowledged: () => undefined,
    });
  }
}
