// Who may be on a network by its rules, as somebody sees who reads the registry's store and every pod's labels: what no rule admits
// neither hears nor is heard, a partner's node has the addresses that were admitted and no others, and nothing of a partner is
// left once the federation is over. Within what is promised, while nothing is wrong.

import { decide } from '../admission/decision.ts';
import { networkProblem } from '../federation/constraints.ts';
import { formatAddress } from '../ipam/prefix.ts';
import { rulesIn } from '../registry/admission-rules.ts';
import { foreignDomainOf } from '../registry/foreign-key.ts';
import { all, below, partsOf } from '../registry/keys.ts';
import { attachment as attachmentSchema, decodeValue } from '../registry/model.ts';
import { State } from '../registry/state.ts';
import type { Batch, ReadResult } from '../registry/transaction.ts';
import type { Calm } from './calm.ts';
import type { Invariants } from './invariants.ts';
import type { Machine } from './machine.ts';
import type { Place, Pods } from './pods.ts';
import type { RegistryMachine } from './registry-machine.ts';
import { PARTNER_DOMAIN, TRUST_DOMAIN } from './signer.ts';

export interface AdmissionJudgeDependencies {
  readonly now: () => number;
  readonly invariants: Invariants;
  readonly registry: () => RegistryMachine;
  readonly pods: () => Pods;
  readonly machines: ReadonlyMap<string, Machine>;
  readonly calm: Calm;
  /** Within which it is promised. */
  readonly promisedMs: number;
}

/** What admission goes by. */
const CHANGING = new Set(['members', 'rulesets', 'admission-rules', 'federations', 'networks']);
const RANGES = [
  all(below.networks),
  all(below.rulesets),
  all(below.admissionRules()),
  all(below.federations),
  all(below.members()),
];

export class AdmissionJudge {
  readonly #dependencies: AdmissionJudgeDependencies;
  /** As the registry last had it. */
  #state: State | undefined;
  /** Since when no rule admits it, by pod and network. */
  readonly #refusedSince = new Map<string, number>();
  /** Every address that was ever admitted, by network and node. */
  readonly #admitted = new Map<string, Set<string>>();
  #unfederatedSince = 0;
  /** Something may be otherwise than at the last look. */
  #lookLater = true;

  constructor(dependencies: AdmissionJudgeDependencies) {
    this.#dependencies = dependencies;
  }

  isAdmitted({ pod, network, labels }: Pick<Place, 'pod' | 'network' | 'labels'>): boolean {
    const state = this.#state;
    const { trustDomain, name: node } = pod.machine;
    if (state === undefined) return trustDomain === TRUST_DOMAIN;
    if (trustDomain !== TRUST_DOMAIN) {
      const { activeSince, admits } = state.federation(trustDomain)?.value ?? {};
      if (activeSince === undefined || admits === undefined || networkProblem(admits, network) !== undefined)
        return false;
    }
    const subject = { trustDomain, cluster: '', node, namespace: '', serviceAccount: '', workload: pod.name };
    return decide(rulesIn(state, network, TRUST_DOMAIN), { ...subject, labels }).rule !== undefined;
  }

  // --- what happens

  opened({ entries }: ReadResult): void {
    for (const { key, value } of entries) this.#noteAttachment(key, value);
    this.#dependencies.calm.disturbed();
    this.#lookLater = true;
  }

  written({ changes }: Batch): void {
    for (const { key, value } of changes) {
      this.#noteAttachment(key, value);
      const [kind = ''] = partsOf(key);
      if (CHANGING.has(kind)) this.#lookLater = true;
      if (kind === 'federations' && value === undefined) this.#expel();
    }
  }

  /** Labels or pods are otherwise than before. */
  changed(): void {
    this.#lookLater = true;
  }

  /** What the partner's nodes hold is nobody's from now on, until they have dropped it. */
  #expel(): void {
    for (const machine of this.#dependencies.machines.values()) {
      if (machine.trustDomain === TRUST_DOMAIN || !machine.holdsSomething) continue;
      machine.isExpelled = true;
      this.#dependencies.invariants.deleted(machine.key);
    }
  }

  #noteAttachment(key: string, value: Uint8Array | undefined): void {
    const [kind, network = '', node = ''] = partsOf(key);
    if (kind !== 'attachments' || value === undefined) return;
    const known = this.#admitted.get(`${network} ${node}`) ?? new Set();
    this.#admitted.set(`${network} ${node}`, known);
    for (const address of decodeValue(attachmentSchema, value, key).addresses) known.add(address);
  }

  #look(): void {
    if (!this.#lookLater) return;
    this.#lookLater = false;
    const { now, registry, pods } = this.#dependencies;
    const store = registry().process?.store;
    if (store !== undefined) this.#state = new State(RANGES, store.read(RANGES));
    const isFederated = this.#state?.federation(PARTNER_DOMAIN)?.value.activeSince !== undefined;
    if (isFederated) this.#unfederatedSince = Number.POSITIVE_INFINITY;
    else this.#unfederatedSince = Math.min(this.#unfederatedSince, now());
    for (const pod of pods().all)
      for (const place of pod.places.values()) {
        const key = `${pod.name} ${place.network}`;
        if (this.isAdmitted(place)) this.#refusedSince.delete(key);
        else if (!this.#refusedSince.has(key)) this.#refusedSince.set(key, now());
      }
  }

  // --- what is judged

  /** A packet of one pod came out at another. */
  delivered(from: string, to: string, network: string): void {
    this.#look();
    const { pods, invariants } = this.#dependencies;
    const [one, other] = [pods().get(from), pods().get(to)];
    // Within a machine it is its kernel that carries.
    if (one === undefined || other === undefined || one.machine === other.machine) return;
    // Who ignores what was decided may talk to his like.
    if (one.machine.isRogue && other.machine.isRogue) return;
    for (const pod of [one, other]) {
      const since = this.#refusedSince.get(`${pod.name} ${network}`);
      invariants.judge(
        'no packet past admission',
        since === undefined || !this.#isOver(since),
        () =>
          `a packet of ${from} came out at ${to} on ${network}, and no rule admits ${pod.name} on ${pod.machine.name} since ${since}`,
      );
    }
  }

  /** Looks at everybody's peers. */
  judge(): void {
    this.#look();
    for (const machine of this.#dependencies.machines.values()) {
      if (machine.isExpelled && !machine.holdsSomething) {
        machine.isExpelled = false;
        this.#dependencies.invariants.cleaned(machine.key);
      }
      if (machine.isLost || machine.freezer.isFrozen) continue;
      for (const { network, peers } of machine.agent?.memberships ?? [])
        for (const { node, prefixes } of peers)
          if (foreignDomainOf(node) !== undefined) this.#judgePeer(machine, network, node, prefixes);
    }
    const strays = this.#state?.members().filter(({ value }) => foreignDomainOf(value.node) !== undefined);
    this.#dependencies.invariants.judge(
      'no partner after its revocation',
      !this.#isOver(this.#unfederatedSince) || (strays?.length ?? 0) === 0,
      () => `${strays?.[0]?.key} is still there, and there is no federation since ${this.#unfederatedSince}`,
    );
  }

  #judgePeer(
    machine: Machine,
    network: string,
    node: string,
    prefixes: readonly { readonly family: 4 | 6; readonly value: bigint; readonly length: number }[],
  ): void {
    const { invariants } = this.#dependencies;
    const admitted = this.#admitted.get(`${network} ${node}`);
    for (const { family, value, length } of prefixes) {
      const address = formatAddress({ family, value });
      invariants.judge(
        'no allowed IP beyond its grant',
        length === (family === 4 ? 32 : 128) && admitted?.has(address) === true,
        () =>
          `${machine.name} lets ${node} have ${address}/${length} of ${network}, which it was never granted`,
      );
    }
    invariants.judge(
      'no partner after its revocation',
      machine.trustDomain !== TRUST_DOMAIN || !this.#isOver(this.#unfederatedSince),
      () =>
        `${node} is a peer of ${machine.name}, and there is no federation since ${this.#unfederatedSince}`,
    );
  }

  #isOver(since: number): boolean {
    const { now, calm, promisedMs } = this.#dependencies;
    return now() - Math.max(since, calm.since) > promisedMs;
  }
}
