// How long a node may go by what the registry granted it for a term: prefix leases, and its SVID. The term runs from when
// the request that succeeded was sent, on CLOCK_BOOTTIME: before the registry's own count begins, so that the node is
// always the first to stop. Pure; whoever holds a term asks with the present moment.

import { z } from 'zod';
import { elapsedSince, type Moment, momentSchema } from '../moment.ts';

export const termSchema = z.object({
  termMs: z.number().positive(),
  /** When the request was sent. */
  since: momentSchema,
});
export type Term = Readonly<z.infer<typeof termSchema>>;

/** What a registry grants that does not say: seven days. */
export const DEFAULT_TERM_MS = 7 * 24 * 3_600_000;

/** With this share of the term left, nothing new is allocated; with half of that, what is there is taken down. */
export const CLOSING_SHARE = 0.02;
export const ENDING_SHARE = 0.01;

export type Phase =
  | 'good'
  /** Nothing is allocated. */
  | 'closing'
  /** Attachments are taken down. */
  | 'ending'
  /** It may be another's. */
  | 'ended';

/** Milliseconds left; negative: it ended that long ago. */
export const leftMs = ({ termMs, since }: Term, now: Moment): number => termMs - elapsedSince(since, now).ms;

/** A term whose begin lies in the future by the only clock there is may be old: it is never better than 'closing'. */
export const phaseOf = (term: Term, now: Moment): Phase => {
  const left = leftMs(term, now);
  if (left <= 0) return 'ended';
  if (left <= term.termMs * ENDING_SHARE) return 'ending';
  if (left <= term.termMs * CLOSING_SHARE) return 'closing';
  return elapsedSince(term.since, now).isCertain ? 'good' : 'closing';
};

/** True also when no clock tells: then the prefix can be another's by now. */
export const mayHaveEnded = (term: Term, now: Moment): boolean =>
  leftMs(term, now) <= 0 || !elapsedSince(term.since, now).isCertain;

/** CLOCK_BOOTTIME at which the phase changes by the mere passing of time; undefined once it has ended. */
export const nextChange = (term: Term, now: Moment): number | undefined => {
  const left = leftMs(term, now);
  const ahead = [CLOSING_SHARE, ENDING_SHARE, 0]
    .map((share) => left - term.termMs * share)
    .filter((wait) => wait > 0);
  return ahead.length === 0 ? undefined : now.boot + Math.min(...ahead);
};

/**
 * A saved term as it runs on in the present boot, to be written down again: from then on the wall clock may jump. One whose
 * begin lies in the future stays as it is, and is judged again when the clock has been set right.
 */
export const carriedOver = (term: Term, now: Moment): Term => {
  if (term.since.bootId === now.bootId) return term;
  const { ms, isCertain } = elapsedSince(term.since, now);
  return isCertain ? { ...term, since: { ...now, boot: now.boot - ms, wall: term.since.wall } } : term;
};

/** A lease that an earlier version wrote down without its term: as good as one renewed now. */
export const unknownTerm = (now: Moment): Term => ({ termMs: DEFAULT_TERM_MS, since: now });

const RENEW_AFTER = 0.08;
const RENEW_JITTER = 0.04;

/** How long after a success to renew: daily for seven days, spread so that nodes do not come at once. `random` in [0, 1). */
export const renewalDelay = (termMs: number, random: number): number =>
  termMs * (RENEW_AFTER + RENEW_JITTER * random);

/** How long to wait after a failure. */
export const retryDelay = (termMs: number): number => Math.min(60_000, termMs / 200);
