// What a simulated node does for a registry that lost its memory: says what it holds and is, and testifies of others. The
// twin of src/agent/recovery.ts.

import { toBase64 } from '../base64.ts';
import type { AgentContext } from './agent-context.ts';
import type { SimulatedMembership } from './membership.ts';

const LEAST_DELAY_MS = 1_000;
const DELAY_SPREAD_MS = 6_000;

export interface RecoveryDependencies {
  readonly context: AgentContext;
  readonly memberships: () => readonly SimulatedMembership[];
  readonly renewLeases: () => void;
}

export class SimulatedRecovery {
  readonly #dependencies: RecoveryDependencies;
  readonly #said = new Set<string>();
  /** By its stamp, the run of the registry that recovers. */
  #recovering: string | undefined;
  #isWaiting = false;

  constructor(dependencies: RecoveryDependencies) {
    this.#dependencies = dependencies;
  }

  storeReplaced(): void {
    this.#dependencies.context.counters.add('stores found replaced');
    this.#sayAll();
  }

  heard(isRecovering: boolean, stamp: Uint8Array): void {
    const recovering = isRecovering ? toBase64(stamp) : undefined;
    if (recovering === this.#recovering) return;
    this.#recovering = recovering;
    this.#said.clear();
    if (!isRecovering) return;
    this.#sayAll();
    for (const membership of this.#dependencies.memberships()) membership.relist();
    this.#testifyLater();
  }

  #sayAll(): void {
    this.#dependencies.renewLeases();
    for (const membership of this.#dependencies.memberships()) membership.sayAgain();
  }

  #testifyLater(): void {
    const { later, random } = this.#dependencies.context;
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    later(LEAST_DELAY_MS + random.fraction() * DELAY_SPREAD_MS, 'may testify', () => {
      this.#isWaiting = false;
      if (this.#recovering === undefined) return;
      for (const membership of this.#dependencies.memberships()) this.#testify(membership);
      this.#testifyLater();
    });
  }

  #testify(membership: SimulatedMembership): void {
    const { control, name, identity, seen, counters } = this.#dependencies.context;
    const { network } = membership;
    const due = membership
      .testimony(seen.position.storeId)
      .map((signed) => ({ signed, id: `${network} ${toBase64(signed.signature)}` }))
      .filter(({ id }) => !this.#said.has(id));
    if (due.length === 0) return;
    const records = due.map(({ signed }) => signed);
    control.call(
      name,
      `testifies of ${due.length} on ${network}`,
      (registry) => registry.testify(identity(), network, records),
      (outcome) => {
        if (!outcome.ok) return;
        counters.add('records restored by testimony', outcome.answer);
        for (const { id } of due) this.#said.add(id);
      },
    );
  }
}
