// A registry that lost its memory: it issues nothing that it did not before, and believes what nodes hold and testify,
// until all it knows have spoken, an admin says that it is enough, or nobody can hold anything unknown any more.

import { Vl3Error } from '../error.ts';
import { type Prefix, parsePrefix, prefixesOverlap } from '../ipam/prefix.ts';
import { clockOf } from './clock-rules.ts';
import { all, below, keys, one } from './keys.ts';
import { freed, isConfirmed, isHeld } from './lease-phase.ts';
import type { LeaseTerms } from './lease-terms.ts';
import {
  type Clock,
  clock as clockSchema,
  type Domain,
  domain as domainSchema,
  type Lease,
  lease as leaseSchema,
  MAX_PREDECESSORS,
  type Recovery,
  type Report,
  report as reportSchema,
} from './model.ts';
import { put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import type { Operation, Plan } from './transaction.ts';
import { withdrawal } from './withdrawal.ts';

/** Undefined: the registry knows all it should. Reads keys.domain. */
export const recoveryOf = (state: State): Recovery | undefined => state.domain()?.value.recovery;

export const REMEDY =
  '`vl3 registry status` names the nodes that it waits for, `vl3 registry settle` ends the wait';

const WHY: Readonly<Record<Recovery['reason'], string>> = {
  empty: 'its store is new, and its domain may not be',
  restored: 'it was restored from a backup',
  'went-back': 'its store is an older copy',
};

/** Whatever issues something new asks this. Throws Vl3Error('unavailable') while the registry recovers. */
export const mustIssue = (state: State, what: string): void => {
  const recovery = recoveryOf(state);
  if (recovery === undefined) return;
  throw new Vl3Error(
    'unavailable',
    `the registry lost its memory (${WHY[recovery.reason]}) and issues no ${what} until nodes have said what they hold: ${REMEDY}`,
  );
};

/** The operations that begin a recovery: everything known is unconfirmed from here on, and no term has run. */
export const beginning = (state: State, reason: Recovery['reason'], domain: Domain): Operation[] => {
  const before = clockOf(state);
  // Later than everything that was ever written down, so that what is confirmed is told by its time.
  const since = before.elapsed + 1;
  const clock: Clock = { elapsed: since, startedAt: before.startedAt, recoveredAt: since };
  return [
    put(keys.domain, domainSchema, { ...domain, recovery: { reason, since } }),
    put(keys.clock, clockSchema, clock),
    { kind: 'delete-prefix', prefix: below.reports },
  ];
};

/** A recovery that an earlier run began can itself be part of a copy that was put back: what it confirmed proves nothing. */
const beganInThisRun = (state: State, { recovery }: Domain): boolean =>
  recovery !== undefined && recovery.since > clockOf(state).startedAt;

/** An empty store that is an older copy knows no more of its nodes than before. */
const beginningAgain = (state: State, domain: Domain): Operation[] =>
  beginning(state, domain.recovery?.reason === 'empty' ? 'empty' : 'went-back', domain);

/** The domain when its recovery is over. */
const recovered = ({ recovery: _, ...domain }: Domain): Domain => domain;

/**
 * The store was made from a backup, and has had `identity` since then: answers whether its recovery begins now, which it
 * does once. Also from a backup of a recovering store: what was confirmed since is lost again.
 */
export const beginRestored = (identity: string): Rule<boolean> => ({
  reads: [one(keys.domain), one(keys.clock)],
  decide: (state) => {
    const domain = state.domain()?.value;
    if (domain === undefined || domain.restoredAs === identity) return settled(false);
    return {
      compares: [state.unchanged(keys.domain), state.unchanged(keys.clock)],
      operations: beginning(state, 'restored', { ...domain, restoredAs: identity }),
      answer: true,
    };
  },
});

/** The store that a node last heard of, and the highest revision of it. */
export interface SeenPosition {
  readonly storeId: string;
  readonly revision: number;
  /** Of the registry, in which it said so; undefined: it is not known. */
  readonly run?: string;
}

/**
 * Answers whether what a node has seen begins a recovery: more of this store than it can have, or a store that has never
 * come before this one. `possible` is the highest revision the node can have seen.
 */
export const hearPosition = (
  node: string,
  seen: SeenPosition,
  store: { readonly identity: string; readonly possible: number },
): Rule<boolean> =>
  seen.storeId === store.identity ? hearRevision(node, seen, store.possible) : hearStore(seen.storeId);

/**
 * The end of a run is lost once: what else it said, whoever repeats it, begins no further recovery. So a node that names
 * the same revision as it did in the latest recovery has only not forgotten it.
 */
const hearRevision = (node: string, { revision, run }: SeenPosition, possible: number): Rule<boolean> => {
  const reportKey = keys.report(node);
  return {
    reads: [one(keys.domain), one(keys.clock), one(reportKey)],
    decide: (state) => {
      const domain = state.domain()?.value;
      const known = state.report(node)?.value;
      if (domain === undefined || revision <= possible || known?.revision === revision) return settled(false);
      if (run !== undefined)
        return domain.lostRuns?.includes(run) ? settled(false) : losing(state, domain, run);
      const noted = put(reportKey, reportSchema, { ...(known ?? newReport(node)), revision });
      const compares = [keys.domain, keys.clock, reportKey].map((key) => state.unchanged(key));
      if (beganInThisRun(state, domain)) return { compares, operations: [noted], answer: false };
      // It is noted with the next heartbeat: here it would be deleted with the earlier reports.
      return { compares, operations: beginningAgain(state, domain), answer: true };
    },
  };
};

const losing = (state: State, domain: Domain, run: string): Plan<boolean> => {
  const noted: Domain = { ...domain, lostRuns: [...(domain.lostRuns ?? []), run].slice(-MAX_PREDECESSORS) };
  const compares = [keys.domain, keys.clock].map((key) => state.unchanged(key));
  return beganInThisRun(state, domain)
    ? { compares, operations: [put(keys.domain, domainSchema, noted)], answer: false }
    : { compares, operations: beginningAgain(state, noted), answer: true };
};

/** After a recovery nodes that were away come with the store before; another one's nodes have seen what is later than this. */
const hearStore = (storeId: string): Rule<boolean> => ({
  reads: [one(keys.domain), one(keys.clock)],
  decide: (state) => {
    const domain = state.domain()?.value;
    if (domain === undefined || storeId === '' || domain.predecessors?.includes(storeId))
      return settled(false);
    const predecessors = [...(domain.predecessors ?? []), storeId].slice(-MAX_PREDECESSORS);
    const noted: Domain = { ...domain, predecessors };
    const compares = [keys.domain, keys.clock].map((key) => state.unchanged(key));
    return beganInThisRun(state, domain)
      ? { compares, operations: [put(keys.domain, domainSchema, noted)], answer: false }
      : { compares, operations: beginningAgain(state, noted), answer: true };
  },
});

export const newReport = (node: string): Report => ({ node, adopted: false, pending: [], conflicts: [] });

/** A node has said all it holds. Nothing to do outside a recovery. */
export const finishReport = (
  node: string,
  found: Pick<Report, 'pending' | 'conflicts'>,
): Rule<{ readonly recovering: boolean }> => {
  const key = keys.report(node);
  return {
    reads: [one(keys.domain), one(keys.clock), one(key)],
    decide: (state) => {
      if (recoveryOf(state) === undefined) return settled({ recovering: false });
      const before = state.report(node)?.value ?? newReport(node);
      const value: Report = { ...before, ...found, reportedAt: before.reportedAt ?? clockOf(state).elapsed };
      const answer = { recovering: true };
      if (JSON.stringify(value) === JSON.stringify(before)) return settled(answer);
      return {
        compares: [state.unchanged(keys.domain), state.unchanged(key)],
        operations: [put(key, reportSchema, value)],
        answer,
      };
    },
  };
};

export interface RecoveryProgress {
  readonly recovery: Recovery;
  /** Known nodes that have not said what they hold. */
  readonly awaited: readonly string[];
  readonly adopted: readonly string[];
  readonly conflicts: readonly string[];
  /** Somebody claims what he cannot have yet. */
  readonly isContested: boolean;
}

export const RECOVERY_READS = [one(keys.domain), one(keys.clock), all(below.nodes), all(below.reports)];

/** Undefined outside a recovery. Reads RECOVERY_READS. */
export const recoveryProgress = (state: State): RecoveryProgress | undefined => {
  const recovery = recoveryOf(state);
  if (recovery === undefined) return undefined;
  const reports = new Map(state.reports().map(({ value }) => [value.node, value]));
  const nodes = state
    .nodes()
    .filter(({ value }) => value.deletedAt === undefined)
    .map(({ value }) => value.name);
  return {
    recovery,
    awaited: nodes.filter((node) => reports.get(node)?.reportedAt === undefined),
    adopted: nodes.filter((node) => reports.get(node)?.adopted),
    conflicts: [...reports.values()].flatMap(({ node, conflicts }) =>
      conflicts.map((conflict) => `node "${node}": ${conflict}`),
    ),
    isContested: [...reports.values()].some(({ pending }) => pending.length > 0),
  };
};

/**
 * Ends a recovery that is over: every known node has spoken (an empty store knows none) and none claims in vain, or whatever
 * it does not know has run out at its holder's. Answers why.
 */
export const endRecovery = (terms: LeaseTerms): Rule<'all-reported' | 'run-out' | undefined> => ({
  reads: RECOVERY_READS,
  decide: (state) => {
    const progress = recoveryProgress(state);
    const domain = state.domain()?.value;
    if (progress === undefined || domain === undefined) return settled(undefined);
    const { recovery, awaited, isContested } = progress;
    const waited = clockOf(state).elapsed - recovery.since;
    // Nodes that it does not know get a moment too: the one in which each asks again.
    const allReported =
      recovery.reason !== 'empty' && awaited.length === 0 && !isContested && waited >= terms.tickMs;
    const runOut = waited >= terms.termMs + terms.quarantineMs;
    if (!allReported && !runOut) return settled(undefined);
    return {
      compares: [state.unchanged(keys.domain), state.noneNewer(below.nodes), state.noneNewer(below.reports)],
      operations: [put(keys.domain, domainSchema, recovered(domain))],
      answer: allReported ? 'all-reported' : 'run-out',
    };
  },
});

/** With a record and a tombstone each they fit into one transaction. */
const MAX_FREED = 40;

/**
 * An admin ends the recovery. Leases that nobody confirmed run their term, and end by themselves; where a node claims what
 * another has not confirmed, the other's is freed, so that the claim holds when it is made again. Those freed go a
 * transaction's worth at a time: while `done` is false, settle again.
 */
export const settle = (
  now: number,
): Rule<{ readonly done: boolean; readonly unclaimed: readonly Lease[] }> => ({
  reads: [
    one(keys.domain),
    one(keys.clock),
    all(below.reports),
    all(below.leases()),
    all(below.records()),
    all(below.tombstones()),
  ],
  decide: (state) => {
    const domain = state.domain()?.value;
    const since = domain?.recovery?.since;
    if (domain === undefined || since === undefined) return settled({ done: true, unclaimed: [] });
    const clock = clockOf(state);
    const claims = new Map<string, Prefix[]>();
    for (const { value } of state.reports()) {
      for (const { network, prefix } of value.pending) {
        claims.set(network, [...(claims.get(network) ?? []), parsePrefix(prefix)]);
      }
    }
    const isClaimed = ({ network, prefix }: Lease): boolean =>
      claims.get(network)?.some((claim) => prefixesOverlap(claim, parsePrefix(prefix))) ?? false;
    const unconfirmed = state.leases().filter(({ value }) => isHeld(value) && !isConfirmed(value, since));
    const claimed = unconfirmed.filter(({ value }) => isClaimed(value));
    const freeing = claimed.slice(0, MAX_FREED);
    const withdrawn = new Map<string, Operation>();
    for (const { value } of freeing) {
      for (const operation of withdrawal(state, value.network, value.node, [value.prefix], now)) {
        withdrawn.set(operation.kind === 'delete-prefix' ? operation.prefix : operation.key, operation);
      }
    }
    const done = freeing.length === claimed.length;
    return {
      compares: [
        state.unchanged(keys.domain),
        state.noneNewer(below.reports),
        ...freeing.map(({ key }) => state.unchanged(key)),
      ],
      operations: [
        ...freeing.map(({ key, value }) => put(key, leaseSchema, freed(value, clock))),
        ...withdrawn.values(),
        ...(done ? [put(keys.domain, domainSchema, recovered(domain))] : []),
      ],
      answer: { done, unclaimed: unconfirmed.map(({ value }) => value) },
    };
  },
});
