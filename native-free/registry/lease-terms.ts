// How long a registry may be gone, and what follows from it: the terms of leases and SVIDs, their quarantine, their
// rest. One setting, so that they always fit each other.

import { Vl3Error } from '../error.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export const DEFAULT_OUTAGE_BUDGET_MS = 6 * DAY_MS;
export const MIN_OUTAGE_BUDGET_MS = MINUTE_MS;
export const MAX_OUTAGE_BUDGET_MS = 60 * DAY_MS;

export interface LeaseTerms {
  /** How long nodes can do without the registry: they renew in time to have at least that left. */
  readonly outageBudgetMs: number;
  /** Of a prefix lease and of an SVID, from their renewal on. */
  readonly termMs: number;
  /** How long the prefix of a lease that ended stays its node's. */
  readonly quarantineMs: number;
  /** How long a prefix that was given back is leased again only when nothing else is free. */
  readonly restMs: number;
  /** How often registry time is written down: no term is known more exactly. */
  readonly tickMs: number;
}

/**
 * `isSignedFor`: leases are grants of a signer apart, which gives a prefix to nobody else until the last grant that names it
 * has ended and rested. Throws Vl3Error('invalid-argument') outside the range that makes sense.
 */
export const leaseTerms = (
  outageBudgetMs: number = DEFAULT_OUTAGE_BUDGET_MS,
  isSignedFor = false,
): LeaseTerms => {
  if (!(outageBudgetMs >= MIN_OUTAGE_BUDGET_MS && outageBudgetMs <= MAX_OUTAGE_BUDGET_MS)) {
    throw new Vl3Error('invalid-argument', 'the outage budget must be from 1 minute to 60 days');
  }
  const termMs = Math.round((outageBudgetMs * 7) / 6);
  const quarantineMs = Math.round(termMs / 7);
  const tickMs = Math.round(Math.min(MINUTE_MS, termMs / 200));
  const rest = Math.round(Math.min(HOUR_MS, termMs / 168));
  return {
    outageBudgetMs,
    termMs,
    quarantineMs,
    restMs: isSignedFor ? termMs + quarantineMs + rest : rest,
    tickMs,
  };
};
