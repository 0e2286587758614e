// What a stored lease is at a moment of registry time. Leased: its node's. Ended: its term is over, and until the quarantine
// is too it is nobody else's. Freed: nobody's, but leased again only when nothing else is free.

import type { LeaseTerms } from './lease-terms.ts';
import type { Clock, Lease } from './model.ts';

export type LeasePhase = 'leased' | 'ended' | 'freed';

/** An end that was written before the latest recovery began proves nothing: the node may have renewed since. */
export const phaseOf = (lease: Lease, clock: Clock): LeasePhase => {
  if (lease.freedAt !== undefined) return 'freed';
  return lease.endedAt !== undefined && lease.endedAt >= (clock.recoveredAt ?? 0) ? 'ended' : 'leased';
};

/** Nobody but its node can have its prefix. */
export const isHeld = (lease: Lease): boolean => lease.freedAt === undefined;

/** When its term began: a start of the registry and a recovery begin every term anew. */
export const termStart = (lease: Lease, { startedAt, recoveredAt = 0 }: Clock): number =>
  Math.max(lease.renewedAt ?? 0, startedAt, recoveredAt);

/** Leased, and its term is over. */
export const isOverdue = (lease: Lease, clock: Clock, { termMs }: LeaseTerms): boolean =>
  phaseOf(lease, clock) === 'leased' && clock.elapsed >= termStart(lease, clock) + termMs;

/** Ended, and out of quarantine. */
export const isQuarantineOver = (lease: Lease, clock: Clock, { quarantineMs }: LeaseTerms): boolean =>
  phaseOf(lease, clock) === 'ended' && clock.elapsed >= (lease.endedAt ?? 0) + quarantineMs;

/** Freed, and rested. A start of the registry changes nothing: nobody holds it. */
export const isRested = (lease: Lease, clock: Clock, { restMs }: LeaseTerms): boolean =>
  lease.freedAt !== undefined && clock.elapsed >= lease.freedAt + restMs;

/** Its node has said since `since` that it holds it. */
export const isConfirmed = (lease: Lease, since: number): boolean => (lease.renewedAt ?? -1) >= since;

/** Its node's, with its full term. */
export const renewed = (lease: Lease, clock: Clock): Lease => {
  const { endedAt: _, freedAt: __, ...rest } = lease;
  return { ...rest, renewedAt: clock.elapsed };
};

export const ended = (lease: Lease, clock: Clock): Lease => ({ ...lease, endedAt: clock.elapsed });

export const freed = ({ network, node, prefix, leasedAt }: Lease, clock: Clock): Lease => ({
  network,
  node,
  prefix,
  leasedAt,
  freedAt: clock.elapsed,
});
