// Two companies' admins, as far as they decide who comes to whom: rules come and go, a partner is invited and revoked, its CA is
// rotated step by step, and it lies. What fails is tried again at the next look, as people do.

import { Vl3Error } from '../error.ts';
import { PARTNER_HOST, REGISTRY_HOST } from './control-plane.ts';
import type { Counters } from './counters.ts';
import type { Internet } from './internet.ts';
import type { Invariants } from './invariants.ts';
import type { Partner } from './partner.ts';
import type { RulePlan } from './plan.ts';
import type { RegistryProcess } from './registry.ts';
import type { RegistryMachine } from './registry-machine.ts';
import { PARTNER_DOMAIN, type SimulatedSigner, TRUST_DOMAIN } from './signer.ts';

export interface AdminsDependencies {
  readonly registry: RegistryMachine;
  readonly partner: Partner | undefined;
  readonly internet: Internet;
  readonly invariants: Invariants;
  readonly counters: Counters;
  /** That the partner may come to. */
  readonly networks: readonly string[];
}

export class Admins {
  readonly #dependencies: AdminsDependencies;
  #wantsPartner = false;
  #invitations = 0;
  #isRotating = false;

  constructor(dependencies: AdminsDependencies) {
    this.#dependencies = dependencies;
  }

  // --- rules

  createRule(network: string, name: string, { from, labels, workload, isDryRun }: RulePlan): void {
    const trustDomain = from === 'partner' ? PARTNER_DOMAIN : TRUST_DOMAIN;
    const selects = { ...(labels && { labels }), ...(workload && { workload }) };
    const rule = { network, name, trustDomain, ...selects, isDryRun: isDryRun ?? false };
    this.#ask(this.#dependencies.registry, (registry) => registry.admission.createRule(rule));
  }

  deleteRule(network: string, name: string): void {
    this.#ask(this.#dependencies.registry, (registry) => registry.admission.deleteRule(network, name));
  }

  // --- the partner

  invite(): void {
    this.#wantsPartner = true;
    this.#bringInStep();
  }

  revoke(): void {
    this.#wantsPartner = false;
    this.#bringInStep();
  }

  /** The next CA is made known; it signs once whoever has to know it does. */
  rotate(): void {
    this.#isRotating = true;
    this.#dependencies.partner?.signer.rotate('announce');
  }

  /** The partner's CA signs for a node of this domain. */
  pretend(node: string): void {
    const { partner, registry, invariants } = this.#dependencies;
    if (partner === undefined || registry.process === undefined) return;
    const forged = partner.signer.pretend(TRUST_DOMAIN, node, registry.wall, 3_600_000);
    let isHeard = false;
    this.#ask(registry, (running) => {
      running.heartbeat(forged, '', { storeId: '', revision: 0n, stamp: new Uint8Array(0) });
      isHeard = true;
    });
    invariants.judge(
      'no identity but its domain’s own',
      !isHeard,
      () => `the registry heard ${node} with an SVID that a CA of ${PARTNER_DOMAIN} signed`,
    );
  }

  /** What was not done is done, and the registries hear of each other. */
  look(): void {
    if (this.#dependencies.partner === undefined) return;
    this.#bringInStep();
    this.#signOnceKnown(this.#dependencies.partner.signer);
  }

  #signOnceKnown(signer: SimulatedSigner): void {
    const known = this.#dependencies.registry.process?.partners.authoritiesOf(PARTNER_DOMAIN);
    if (!this.#isRotating || known === undefined) return;
    if (!signer.authorities.every((ca) => known.includes(ca))) return;
    this.#isRotating = false;
    signer.rotate('sign');
    this.#dependencies.counters.add('CAs rotated');
  }

  /** As often as registries ask each other. */
  poll(): void {
    const { registry, partner } = this.#dependencies;
    const [home, there] = [registry.process, partner?.registry.process];
    if (partner === undefined || home === undefined || there === undefined || !this.#meet()) return;
    const [homeSays, otherSays] = [home.partners.asOther, there.partners.asOther];
    this.#ask(registry, (running) => running.partners.polled(otherSays));
    this.#ask(partner.registry, (running) => running.partners.polled(homeSays));
  }

  #bringInStep(): void {
    const { registry, partner } = this.#dependencies;
    const home = registry.process;
    if (partner === undefined || home === undefined) return;
    if (!this.#wantsPartner) {
      if (home.partners.isFederatedWith(PARTNER_DOMAIN))
        this.#ask(registry, (running) => running.partners.revoke(PARTNER_DOMAIN));
      this.#ask(registry, (running) => running.partners.removeStrays());
      return;
    }
    const there = partner.registry.process;
    if (there === undefined || !this.#meet()) return;
    const areFederated =
      home.partners.isFederatedWith(PARTNER_DOMAIN) && there.partners.isFederatedWith(TRUST_DOMAIN);
    if (areFederated) return;
    const secret = `invitation ${++this.#invitations}`;
    const { networks } = this.#dependencies;
    const constraints = { trustDomain: PARTNER_DOMAIN, networks: [...networks], names: [], prefixes: [] };
    const [homeSays, otherSays] = [home.partners.asOther, there.partners.asOther];
    const isInvited =
      this.#ask(registry, (running) => running.partners.invite(constraints, secret)) &&
      this.#ask(registry, (running) => running.partners.join(otherSays, secret)) &&
      this.#ask(partner.registry, (running) => running.partners.accept(homeSays, constraints));
    if (isInvited) this.#dependencies.counters.add('partners joined');
  }

  #meet(): boolean {
    const { internet } = this.#dependencies;
    return (
      !internet.isBlocked(REGISTRY_HOST, PARTNER_HOST) && !internet.isBlocked(PARTNER_HOST, REGISTRY_HOST)
    );
  }

  /** True when the registry did it. */
  #ask(registry: RegistryMachine, work: (running: RegistryProcess) => void): boolean {
    const running = registry.process;
    if (running === undefined) return false;
    return (
      registry.enter(() => {
        try {
          work(running);
          return true;
        } catch (error) {
          if (!(error instanceof Vl3Error)) throw error;
          return false;
        }
      }) ?? false
    );
  }
}
