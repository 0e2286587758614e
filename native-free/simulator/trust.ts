// Whom a simulated node believes: nodes and grants of its own domain by that domain's CAs, a partner's by what its own registry
// said of that, and nobody else. The twin of src/agent/trust.ts and federations.ts.

import { z } from 'zod';
import type { VerifyGrant } from '../admission/grant.ts';
import type { DocumentKind } from '../reconcile/document-store.ts';
import type { VerifyRecord } from '../registry/record.ts';
import type { Documents } from './documents.ts';
import { attempt } from './outcome.ts';
import type { Authorities, SimulatedSigner } from './signer.ts';

/** The CAs of each partner, as the own registry tells them. */
export interface Federations {
  readonly isRecovering: boolean;
  readonly partners: readonly { readonly trustDomain: string; readonly authorities: readonly number[] }[];
}

const savedFederation = z.strictObject({ authorities: z.array(z.number()) });
/** Named by the domain. */
const FEDERATION: DocumentKind<z.infer<typeof savedFederation>> = {
  kind: 'federation',
  schema: savedFederation,
};

export interface SimulatedTrustDependencies {
  readonly own: string;
  readonly signers: ReadonlyMap<string, SimulatedSigner>;
  readonly documents: Documents;
  /** Other CAs speak for the domain, or none any more. */
  readonly onChanged: (trustDomain: string) => void;
}

export class SimulatedTrust {
  readonly #dependencies: SimulatedTrustDependencies;
  readonly #partners = new Map<string, readonly number[]>();

  /** With what was saved. */
  constructor(dependencies: SimulatedTrustDependencies) {
    this.#dependencies = dependencies;
    for (const { name, value } of dependencies.documents.list(FEDERATION))
      this.#partners.set(name, value.authorities);
  }

  isPartner(trustDomain: string): boolean {
    return this.#partners.has(trustDomain);
  }

  readonly verifierOf = (trustDomain: string): VerifyRecord | undefined => {
    const { signers } = this.#dependencies;
    const signer = signers.get(trustDomain);
    if (signer === undefined || this.#authoritiesOf(signer) === undefined) return undefined;
    return signer.verifierOf(() => this.#authoritiesOf(signer));
  };

  verifyGrantOf(trustDomain: string): VerifyGrant {
    const signer = this.#dependencies.signers.get(trustDomain);
    return signer?.grantVerifierOf(() => this.#authoritiesOf(signer)) ?? (() => undefined);
  }

  #authoritiesOf({ trustDomain, authorities }: SimulatedSigner): Authorities {
    return trustDomain === this.#dependencies.own ? authorities : this.#partners.get(trustDomain);
  }

  /** What the own registry says. What cannot be written down counts all the same, and is asked for again after a start. */
  heard({ isRecovering, partners }: Federations): void {
    const { documents, onChanged } = this.#dependencies;
    for (const { trustDomain, authorities } of partners) {
      const known = this.#partners.get(trustDomain);
      if (known?.join() === authorities.join()) continue;
      this.#partners.set(trustDomain, authorities);
      attempt(() => documents.put(FEDERATION, trustDomain, { authorities: [...authorities] }));
      onChanged(trustDomain);
    }
    if (isRecovering) return;
    for (const trustDomain of [...this.#partners.keys()]) {
      if (partners.some((one) => one.trustDomain === trustDomain)) continue;
      this.#partners.delete(trustDomain);
      attempt(() => documents.delete(FEDERATION, trustDomain));
      onChanged(trustDomain);
    }
  }
}
