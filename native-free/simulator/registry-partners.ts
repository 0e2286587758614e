// Federations on the simulated registry: who is a partner, which of its CAs count, and what of its nodes is taken away when that is
// over. The rules are the real ones; of documents, endpoints and invitations only what they are about is here.

import {
  countingCertificates,
  type HeldBundle,
  judgeBundle,
  type SpiffeBundle,
} from '../federation/bundle-rules.ts';
import type { FederationConstraints } from '../federation/constraints.ts';
import {
  invitePartner,
  keepBundle,
  notePartner,
  noteStanding,
  removeForeignMember,
  revokePartner,
  strayMembers,
  takeInvitation,
} from '../registry/federation-rules.ts';
import { all, below, keys, one } from '../registry/keys.ts';
import { recoveryOf } from '../registry/recovery-rules.ts';
import { State } from '../registry/state.ts';
import type { Range } from '../registry/transaction.ts';
import type { DurableStore } from './durable-store.ts';
import type { Hooks } from './hooks.ts';
import { hashText } from './random.ts';
import type { Authorities, SimulatedSigner } from './signer.ts';
import type { Federations } from './trust.ts';

const ADMIN = 'simulated';

/** One registry as another sees it. */
export interface OtherRegistry {
  readonly bundle: SpiffeBundle;
  readonly isFederatedWith: (trustDomain: string) => boolean;
}

export interface RegistryPartnersDependencies {
  readonly store: DurableStore;
  readonly signer: SimulatedSigner;
  readonly hooks: Hooks;
  readonly now: () => number;
}

export class RegistryPartners {
  readonly #dependencies: RegistryPartnersDependencies;

  constructor(dependencies: RegistryPartnersDependencies) {
    this.#dependencies = dependencies;
  }

  // --- what admins do

  invite(constraints: FederationConstraints, secret: string): void {
    this.#dependencies.store.run(invitePartner(constraints, { secretHash: hashOf(secret) }, this.#change));
  }

  /** A domain has the invitation. */
  join(other: OtherRegistry, secret: string): void {
    const secretHash = hashOf(secret);
    const introduction = { ...introduce(other.bundle, this.#now), bundleHash: hashOf(other.bundle.text) };
    this.#dependencies.store.run(takeInvitation(introduction, secretHash, this.#now));
  }

  /** This domain took another's. */
  accept(other: OtherRegistry, constraints: FederationConstraints): void {
    const introduction = introduce(other.bundle, this.#now);
    this.#dependencies.store.run(notePartner({ ...introduction, constraints }, this.#change));
  }

  revoke(trustDomain: string): void {
    this.#dependencies.store.run(revokePartner(trustDomain, this.#change));
  }

  // --- what follows

  /** What remains of whom there is no federation with any more goes. */
  removeStrays(): void {
    const { store, hooks } = this.#dependencies;
    if (!hooks.removesStrays) return;
    for (const { network, node } of store.run(strayMembers))
      store.run(removeForeignMember(network, node, this.#now));
  }

  /** The partner's endpoint and its registry say this. */
  polled(other: OtherRegistry): void {
    const { store, signer } = this.#dependencies;
    const { trustDomain } = other.bundle;
    if (this.#state.federation(trustDomain)?.value.activeSince === undefined) return;
    store.run(noteStanding(trustDomain, other.isFederatedWith(signer.trustDomain), this.#now));
    const verdict = judgeBundle(this.#held(trustDomain), other.bundle, 'endpoint', this.#now);
    if (verdict.kind !== 'refused') store.run(keepBundle(verdict.held));
  }

  // --- what is known

  get asOther(): OtherRegistry {
    const { trustDomain, authorities } = this.#dependencies.signer;
    return {
      bundle: bundleOf(trustDomain, authorities),
      isFederatedWith: (other) => this.#state.federation(other)?.value.activeSince !== undefined,
    };
  }

  isFederatedWith(trustDomain: string): boolean {
    return this.#state.federation(trustDomain)?.value.activeSince !== undefined;
  }

  authoritiesOf(trustDomain: string): Authorities {
    if (!this.isFederatedWith(trustDomain)) return undefined;
    return countingCertificates(this.#held(trustDomain), this.#now).map(({ fingerprint }) =>
      Number(fingerprint),
    );
  }

  /** For the nodes of this domain. */
  get federations(): Federations {
    const state = this.#state;
    const partners = state
      .federations()
      .filter(({ value }) => value.activeSince !== undefined)
      .map(({ value: { trustDomain } }) => ({
        trustDomain,
        authorities: this.authoritiesOf(trustDomain) ?? [],
      }));
    return { isRecovering: recoveryOf(state) !== undefined, partners };
  }

  #held(trustDomain: string): HeldBundle | undefined {
    const kept = this.#state.partnerBundle(trustDomain)?.value;
    return kept && { bundle: bundleOf(trustDomain, JSON.parse(kept.text)), confirmedAt: kept.confirmedAt };
  }

  get #state(): State {
    const ranges: Range[] = [one(keys.domain), all(below.federations), all(below.partnerBundles)];
    return new State(ranges, this.#dependencies.store.read(ranges));
  }

  get #change() {
    return { admin: ADMIN, now: this.#now };
  }

  get #now(): number {
    return this.#dependencies.now();
  }
}

const introduce = (bundle: SpiffeBundle, now: number) => ({
  trustDomain: bundle.trustDomain,
  held: { bundle, confirmedAt: now },
  endpoint: { profile: 'https_web', url: `https://${bundle.trustDomain}/bundle.json` } as const,
  registries: [`${bundle.trustDomain}:7443`],
  handle: hashOf(bundle.trustDomain),
});

/** The CAs' numbers stand for their certificates. */
const bundleOf = (trustDomain: string, authorities: readonly number[]): SpiffeBundle => ({
  trustDomain,
  certificates: authorities.map((ca) => ({
    der: new Uint8Array(0),
    fingerprint: String(ca),
    notBefore: 0,
    notAfter: Number.MAX_SAFE_INTEGER,
  })),
  jwtKeyIds: [],
  ignored: 0,
  sequence: BigInt(Math.max(...authorities)),
  refreshHint: undefined,
  text: JSON.stringify(authorities),
});

/** 64 hex digits that stand for a SHA-256. */
const hashOf = (text: string): string =>
  Array.from({ length: 8 }, (_, i) => (hashText(text, i + 1) >>> 0).toString(16).padStart(8, '0')).join('');
