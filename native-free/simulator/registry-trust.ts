// Whose certificates and signatures the simulated registry believes: of its own domain its own CAs', of a partner that one's.

import { NotEnrolled, Vl3Error } from '../error.ts';
import { foreignDomainOf } from '../registry/foreign-key.ts';
import type { VerifyRecord } from '../registry/record.ts';
import type { Hooks } from './hooks.ts';
import type { RegistryPartners } from './registry-partners.ts';
import type { Authorities, SimulatedIdentity, SimulatedSigner } from './signer.ts';

export interface RegistryTrustDependencies {
  readonly signer: SimulatedSigner;
  readonly signers: ReadonlyMap<string, SimulatedSigner>;
  readonly partners: RegistryPartners;
  readonly hooks: Hooks;
}

export class RegistryTrust {
  readonly #dependencies: RegistryTrustDependencies;

  constructor(dependencies: RegistryTrustDependencies) {
    this.#dependencies = dependencies;
  }

  /** One bundle a domain, never merged. Throws Vl3Error('unauthenticated'), or NotEnrolled where there is no federation. */
  mustVerify({ trustDomain, chain }: SimulatedIdentity, isRecovering: boolean): void {
    const { signers, hooks } = this.#dependencies;
    if (hooks.mergesBundles && [...signers.values()].some((signer) => signer.isIssuerOf(chain))) return;
    const authorities = this.#authoritiesOf(trustDomain);
    if (signers.get(trustDomain)?.hasSigned(chain, authorities) === true) return;
    const message = `no CA that is believed of ${trustDomain} has signed this`;
    if (authorities !== undefined) throw new Vl3Error('unauthenticated', message);
    throw new NotEnrolled(isRecovering ? 'unknown' : 'deleted', message);
  }

  /** Of what the node signs. */
  verifierOf(node: string): VerifyRecord {
    const { signers, signer: own } = this.#dependencies;
    const domain = foreignDomainOf(node) ?? own.trustDomain;
    const signer = signers.get(domain);
    return signer?.verifierOf(() => this.#authoritiesOf(domain)) ?? (() => undefined);
  }

  #authoritiesOf(trustDomain: string): Authorities {
    const { signer, partners } = this.#dependencies;
    return trustDomain === signer.trustDomain ? signer.authorities : partners.authoritiesOf(trustDomain);
  }
}
