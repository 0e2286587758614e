// Whom this node believes: nodes and grants of its own domain by that domain's CAs, those of each partner by the partner's, and
// nobody else. One bundle a domain, never merged. What holds is said by federations.ts and the node's identity.

import type { VerifyGrant } from '../../native-free/admission/grant.ts';
import type { VerifyRecord } from '../../native-free/registry/record.ts';
import type { TrustBundle } from '../identity/chain.ts';
import { createGrantVerifier } from '../identity/grant-signer.ts';
import { createRecordVerifier } from '../identity/record-signer.ts';

export interface TrustDeps {
  readonly own: () => TrustBundle;
  /** Undefined: nobody of the domain is believed (any more). */
  readonly partner: (trustDomain: string) => TrustBundle | undefined;
}

interface Verifiers {
  readonly bundle: TrustBundle;
  readonly verify: VerifyRecord;
  readonly verifyGrant: VerifyGrant;
}

export class Trust {
  readonly #deps: TrustDeps;
  /** They remember chains: made anew only for another bundle. */
  readonly #verifiers = new Map<string, Verifiers>();

  constructor(deps: TrustDeps) {
    this.#deps = deps;
  }

  /** What nodes of the domain sign. */
  readonly verifierOf = (trustDomain: string): VerifyRecord | undefined => this.#of(trustDomain)?.verify;

  /** What the domain grants on its networks. */
  verifyGrantOf(trustDomain: string): VerifyGrant {
    return (...signed) => this.#of(trustDomain)?.verifyGrant(...signed);
  }

  #of(trustDomain: string): Verifiers | undefined {
    const own = this.#deps.own();
    // Enrolling anew may be with the CA that came after a lost one, and partners' bundles come and go.
    const bundle = own.trustDomain === trustDomain ? own : this.#deps.partner(trustDomain);
    const known = this.#verifiers.get(trustDomain);
    if (known !== undefined && known.bundle === bundle) return known;
    this.#verifiers.delete(trustDomain);
    if (bundle === undefined) return undefined;
    const verify = createRecordVerifier(bundle);
    const made = { bundle, verify, verifyGrant: createGrantVerifier(bundle) };
    this.#verifiers.set(trustDomain, made);
    return made;
  }
}
