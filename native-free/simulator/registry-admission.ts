// Admission on the simulated registry: rules that an admin makes and takes away, and what follows from them, brought in step
// a moment after each change. The twin of src/registry/admission-keeper.ts; who decides is registry/admission-decisions.ts.

import type { AdmissionRule } from '../admission/rule.ts';
import { toBase64 } from '../base64.ts';
import { redecide } from '../registry/admission-decisions.ts';
import { createAdmissionRule, deleteAdmissionRule, putInForce } from '../registry/admission-rules.ts';
import { dueGrant, type Granting, keepGrant } from '../registry/granting-rules.ts';
import { all, below, keys, one, partsOf } from '../registry/keys.ts';
import { recoveryOf } from '../registry/recovery-rules.ts';
import { State } from '../registry/state.ts';
import type { Batch } from '../registry/transaction.ts';
import type { DurableStore } from './durable-store.ts';
import { attempt } from './outcome.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { SimulatedSigner } from './signer.ts';

/** What the grants of a network's nodes follow from. */
const GRANTED = new Set(['attachments', 'members', 'rulesets', 'domain', 'federations']);
/** A turn of the event loop, and a signature. */
const TURN_MS: readonly [number, number] = [5, 50];
const RETRY_MS = 1000;
const ADMIN = 'simulated';

export interface RegistryAdmissionDependencies {
  readonly store: DurableStore;
  readonly signer: SimulatedSigner;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly termMs: number;
  readonly now: () => number;
  /** Runs work as part of the process. */
  readonly enter: (work: () => void) => void;
}

export class RegistryAdmission {
  readonly #dependencies: RegistryAdmissionDependencies;
  /** What has to be looked at: networks, or members of them as `network node`; undefined: everything. */
  #dirty: Set<string> | undefined = new Set();
  #isDue = false;

  constructor(dependencies: RegistryAdmissionDependencies) {
    this.#dependencies = dependencies;
  }

  // --- what an admin does

  createRule(rule: Omit<AdmissionRule, 'createdAt'>): void {
    this.#dependencies.store.run(createAdmissionRule({ ...rule, createdAt: 0 }, this.#change));
  }

  deleteRule(network: string, name: string): void {
    this.#dependencies.store.run(deleteAdmissionRule(network, name, this.#change));
  }

  get #change() {
    const { now, signer } = this.#dependencies;
    return { admin: ADMIN, now: now(), trustDomain: signer.trustDomain };
  }

  // --- what follows

  /** Looks at everything soon, also when nothing has changed: grants end. */
  lookAround(): void {
    this.#dirty = undefined;
    this.#settleSoon();
  }

  written({ changes }: Batch): void {
    for (const { key } of changes) {
      const [kind = '', first = '', second] = partsOf(key);
      if (!GRANTED.has(kind)) continue;
      // A recovery began or ended, or a federation.
      if (kind === 'domain' || kind === 'federations') this.#dirty = undefined;
      else this.#dirty?.add(kind === 'rulesets' ? first : `${first} ${second}`);
      this.#settleSoon();
    }
  }

  #settleSoon(delay = this.#dependencies.random.between(...TURN_MS)): void {
    if (this.#isDue) return;
    this.#isDue = true;
    const { scheduler, enter } = this.#dependencies;
    scheduler.after(delay, 'the registry brings admission in step', () => {
      this.#isDue = false;
      enter(() => {
        if (attempt(() => this.#settle()).ok) return;
        this.#dirty = undefined;
        this.#settleSoon(RETRY_MS);
      });
    });
  }

  #settle(): void {
    const { store } = this.#dependencies;
    const dirty = this.#dirty;
    this.#dirty = new Set();
    const ranges = [one(keys.domain), all(below.rulesets), all(below.members())];
    const state = new State(ranges, store.read(ranges));
    for (const { value: ruleset } of state.rulesets()) {
      const { network } = ruleset;
      const isWhole = dirty === undefined || dirty.has(network);
      for (const { value } of state.members(network))
        if (isWhole || dirty.has(`${network} ${value.node}`)) this.#settleNode(network, value.node);
      if (isWhole && recoveryOf(state) === undefined) store.run(putInForce(network, ruleset.version));
    }
  }

  #settleNode(network: string, node: string): void {
    const { store, signer, now, termMs } = this.#dependencies;
    const { trustDomain } = signer;
    while (store.run(redecide(network, node, trustDomain, now())).remaining > 0);
    const granting: Granting = { network, node, trustDomain, storeId: store.identity, leases: false };
    for (;;) {
      const bounds = { termMs, signsUntil: Number.POSITIVE_INFINITY };
      const due = store.run(dueGrant(granting, bounds, now()));
      if (due === undefined) return;
      const { record, signature, certificateChain } = signer.signGrant(due.content, now(), due.notAfter);
      const { sequence } = due.content;
      const stored = {
        grant: toBase64(record),
        signature: toBase64(signature),
        certificateChain: certificateChain.map(toBase64),
        sequence,
        notAfter: due.notAfter,
      };
      if (store.run(keepGrant(granting, due, stored))) return;
    }
  }
}
