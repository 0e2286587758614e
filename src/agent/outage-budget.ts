// How long this node can do without its registry from now on: until the first of its leases may not be allocated from any
// more, or its SVID expires. And the sentences that say so.

import { CLOSING_SHARE, ENDING_SHARE, type Term } from '../../native-free/ipam/lease-clock.ts';

export interface OutageBudget {
  /** Milliseconds until new attachments stop; 0: they have. */
  readonly leftMs: number;
  /** Of which it is a part: how long leases and SVID hold when they have just been renewed. */
  readonly termMs: number;
  /** Milliseconds until attachments are taken down; null: none ever are, since nothing is leased. */
  readonly takedownMs: number | null;
}

export interface BudgetParts {
  readonly svid: { readonly leftMs: number; readonly termMs: number };
  readonly leases: readonly { readonly leftMs: number; readonly term: Term }[];
}

export const outageBudget = ({ svid, leases }: BudgetParts): OutageBudget => {
  const before = (share: number): number[] => leases.map(({ leftMs, term }) => leftMs - term.termMs * share);
  return {
    leftMs: Math.max(0, Math.round(Math.min(svid.leftMs, ...before(CLOSING_SHARE)))),
    termMs: Math.round(Math.max(svid.termMs, ...leases.map(({ term }) => term.termMs))),
    takedownMs: leases.length === 0 ? null : Math.max(0, Math.round(Math.min(...before(ENDING_SHARE)))),
  };
};

/** Whether it is time to worry: half of it is used up. */
export const isLow = ({ leftMs, termMs }: OutageBudget): boolean => leftMs < termMs / 2;

/** `now`: unix ms. */
export const budgetSentence = ({ leftMs, takedownMs }: OutageBudget, now: number): string => {
  const first =
    leftMs === 0
      ? 'the registry has been gone for too long: nothing new is attached'
      : `the registry may be gone for another ${duration(leftMs)}; then new attachments stop`;
  if (takedownMs === null) return first;
  const then =
    takedownMs === 0
      ? 'what could not be renewed has been taken down until it answers'
      : `at ${new Date(now + takedownMs).toISOString().replace(/\.\d+Z$/, 'Z')} attachments are taken down`;
  return `${first}, and ${then}`;
};

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
] as const;

/** In its two greatest units: "5 d 22 h". */
export const duration = (milliseconds: number): string => {
  const at = UNITS.findIndex(([, size]) => milliseconds >= size);
  const greatest = UNITS[at];
  if (greatest === undefined) return '0 s';
  const [unit, size] = greatest;
  const whole = Math.floor(milliseconds / size);
  const next = UNITS[at + 1];
  if (next === undefined) return `${whole} ${unit}`;
  return `${whole} ${unit} ${Math.floor((milliseconds - whole * size) / next[1])} ${next[0]}`;
};
