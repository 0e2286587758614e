// Whether the prefixes of machines that are gone for good come back: after a term and the quarantine, however often the
// registry is started again meanwhile. Judged when all else has settled, and only where the time it takes is affordable.

import { isHeld } from '../registry/lease-phase.ts';
import { leaseTerms } from '../registry/lease-terms.ts';
import { State } from '../registry/state.ts';
import { PACES } from './pace.ts';
import type { Simulation } from './simulator.ts';

/** In a lively plan every second costs. */
const LONGEST_LIVELY_TERM_MS = 80_000;
/** The registry is started again this often while prefixes are in quarantine. */
const STARTS_A_QUARANTINE = 3;
const QUARANTINES = 2;

export const judgeComingBack = ({ plan, machines, scheduler, registry, invariants }: Simulation): void => {
  const terms = leaseTerms(plan.outageBudgetMs);
  if (plan.pace === 'lively' && terms.termMs > LONGEST_LIVELY_TERM_MS) return;
  const lost = [...machines.values()].filter(({ isLost }) => isLost).map(({ name }) => name);
  if (lost.length === 0) return;
  const tickMs = Math.max(terms.tickMs, PACES[plan.pace].registryTickMs);
  const held = () => {
    const all = [{ prefix: '/' }];
    const found = registry.process?.store.read(all);
    const leases = found === undefined ? [] : new State(all, found).leases();
    return leases.filter(({ value }) => lost.includes(value.node) && isHeld(value));
  };
  const termIsOver = scheduler.now + terms.termMs + 4 * tickMs;
  while (scheduler.now < termIsOver && held().some(({ value }) => value.endedAt === undefined))
    scheduler.runUntil(scheduler.now + tickMs);
  for (let i = 0; i < STARTS_A_QUARANTINE * QUARANTINES; i++) {
    registry.kill();
    registry.start();
    scheduler.runUntil(scheduler.now + terms.quarantineMs / STARTS_A_QUARANTINE + 2 * tickMs);
  }
  const left = held();
  invariants.judge(
    'prefixes come back',
    left.length === 0,
    () => `${left[0]?.key} is kept for ${left[0]?.value.node}, which is gone for good and out of quarantine`,
  );
};
