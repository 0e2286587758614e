// What the simulated registry does on its own: at a start it finds out whether it lost its memory, and every tick registry
// time goes on, leases end and are forgotten, and a recovery that is over ends. The same rules in the same order as
// src/registry/server.ts and maintenance.ts.

import { advanceClock, startClock } from '../registry/clock-rules.ts';
import { bindCa, knowsCa } from '../registry/domain-rules.ts';
import { dueLeases, endLeases, forgetRested, purgeLeases } from '../registry/expiry-rules.ts';
import type { LeaseTerms } from '../registry/lease-terms.ts';
import { beginRestored, endRecovery } from '../registry/recovery-rules.ts';
import type { DurableStore } from './durable-store.ts';
import type { Hooks } from './hooks.ts';

const CA_FINGERPRINT = 'ca'.repeat(32);

/** `hasCa`: the CA is older than this start. */
export const openStore = (store: DurableStore, hasCa: boolean, hooks: Hooks): void => {
  const isOlder = store.run(knowsCa) === 'fresh' && hasCa && hooks.recovers;
  if (!isOlder) store.run(startClock);
  store.run(bindCa(CA_FINGERPRINT, isOlder));
  if (store.isRestored && hooks.recovers) store.run(beginRestored(store.identity));
  if (isOlder) store.run(startClock);
  hooks.afterRegistryStart?.(store);
};

/** `passed`: by the registry's monotonic clock since the last tick. */
export const tick = (store: DurableStore, terms: LeaseTerms, passed: number, now: number): void => {
  store.run(advanceClock(Math.min(passed, 2 * terms.tickMs)));
  store.run(endRecovery(terms));
  const due = store.run(dueLeases(terms));
  for (const holder of due.overdue) while (store.run(endLeases(holder, terms, now)).remaining);
  for (const holder of due.purgeable) store.run(purgeLeases(holder, terms, now));
  if (due.rested > 0) while (store.run(forgetRested(terms)) > 0);
};
