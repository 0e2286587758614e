// How leases end by themselves. When its term is over a lease is in quarantine, and what the node said of its prefix is
// withdrawn; after the quarantine the prefix is free, and a node that has none left is off the network. Given back, a
// prefix rests for a while. Each rule is for one transaction, and asked again until it finds nothing.

import { parseAddress, parsePrefix, prefixContains } from '../ipam/prefix.ts';
import { clockOf } from './clock-rules.ts';
import { all, below, keys, one } from './keys.ts';
import { ended, isHeld, isOverdue, isQuarantineOver, isRested, phaseOf } from './lease-phase.ts';
import { endMembership, heldBy } from './lease-rules.ts';
import type { LeaseTerms } from './lease-terms.ts';
import { type Lease, lease as leaseSchema } from './model.ts';
import { recoveryOf } from './recovery-rules.ts';
import { put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import { MAX_OPERATIONS, type Operation } from './transaction.ts';
import { withdrawal } from './withdrawal.ts';

const EXPIRY_READS = [one(keys.domain), one(keys.clock), all(below.leases())];

/** What there is to do, by node and network: for `endLeases` and `purgeLeases`. Reads everything that is leased. */
export const dueLeases = (
  terms: LeaseTerms,
): Rule<{
  readonly overdue: readonly Holder[];
  readonly purgeable: readonly Holder[];
  readonly rested: number;
}> => ({
  reads: EXPIRY_READS,
  decide: (state) => {
    const clock = clockOf(state);
    const leases = state.leases().map(({ value }) => value);
    return settled({
      overdue: holders(leases.filter((lease) => isOverdue(lease, clock, terms))),
      purgeable: isRecovering(state)
        ? []
        : holders(leases.filter((lease) => isQuarantineOver(lease, clock, terms))),
      rested: leases.filter((lease) => isRested(lease, clock, terms)).length,
    });
  },
});

export interface Holder {
  readonly network: string;
  readonly node: string;
}

const holders = (leases: readonly Lease[]): Holder[] => {
  const found = new Map(leases.map(({ network, node }) => [`${network}/${node}`, { network, node }]));
  return [...found.values()];
};

const isRecovering = (state: State): boolean => recoveryOf(state) !== undefined;

/** While the registry recovers an end proves nothing: the node may have renewed what was forgotten. */
const holderReads = ({ network, node }: Holder) => [
  one(keys.domain),
  one(keys.clock),
  one(keys.member(network, node)),
  one(keys.record(network, node)),
  one(keys.tombstone(network, node)),
  one(keys.grant(network, node)),
  all(below.leases(network)),
];

/** Puts a node's overdue leases of a network in quarantine. Answers those, and whether attachments remain to be struck out. */
export const endLeases = (
  holder: Holder,
  terms: LeaseTerms,
  now: number,
): Rule<{ readonly ended: readonly Lease[]; readonly remaining: boolean }> => {
  const { network, node } = holder;
  const attached = below.attachments(network, node);
  return {
    reads: [...holderReads(holder), all(attached)],
    decide: (state) => {
      const clock = clockOf(state);
      const own = heldBy(node, state.leases(network));
      const overdue = own.filter((lease) => isOverdue(lease, clock, terms));
      const gone = own.filter((lease) => phaseOf(lease, clock) === 'ended' || overdue.includes(lease));
      const operations: Operation[] = [
        ...overdue.map((lease) => put(keys.lease(network, lease.prefix), leaseSchema, ended(lease, clock))),
        ...withdrawal(
          state,
          network,
          node,
          gone.map(({ prefix }) => prefix),
          now,
        ),
      ];
      const prefixes = gone.map(({ prefix }) => parsePrefix(prefix));
      const stray = state
        .attachments(network, node)
        .filter(({ value }) =>
          value.addresses.some((text) =>
            prefixes.some((prefix) => prefixContains(prefix, parseAddress(text))),
          ),
        );
      const struck = stray.slice(0, MAX_OPERATIONS - operations.length);
      operations.push(...struck.map(({ key }) => ({ kind: 'delete', key }) as const));
      const answer = { ended: overdue, remaining: struck.length < stray.length };
      if (operations.length === 0) return settled(answer);
      return {
        compares: [
          state.unchanged(keys.domain),
          state.unchanged(keys.clock),
          state.unchanged(keys.member(network, node)),
          state.unchanged(keys.record(network, node)),
          state.unchanged(keys.tombstone(network, node)),
          state.noneNewer(below.leases(network)),
          state.noneNewer(attached),
        ],
        operations,
        answer,
      };
    },
  };
};

/** Forgets a node's leases of a network that are out of quarantine, and its membership with the last one. */
export const purgeLeases = (
  holder: Holder,
  terms: LeaseTerms,
  now: number,
): Rule<{ readonly purged: readonly Lease[]; readonly left: boolean }> => {
  const { network, node } = holder;
  return {
    reads: holderReads(holder),
    decide: (state) => {
      if (isRecovering(state)) return settled({ purged: [], left: false });
      const clock = clockOf(state);
      const own = heldBy(node, state.leases(network));
      const purged = own.filter((lease) => isQuarantineOver(lease, clock, terms));
      if (purged.length === 0) return settled({ purged, left: false });
      const doomed = new Set(purged.map(({ prefix }) => keys.lease(network, prefix)));
      const left = purged.length === own.length && state.member(network, node) !== undefined;
      const end = left ? endMembership(state, network, node, now).operations : [];
      return {
        compares: [
          state.unchanged(keys.domain),
          state.unchanged(keys.clock),
          state.unchanged(keys.member(network, node)),
          state.unchanged(keys.record(network, node)),
          state.unchanged(keys.tombstone(network, node)),
          state.noneNewer(below.leases(network)),
        ],
        operations: [
          ...end.filter((operation) => !(operation.kind === 'put' && doomed.has(operation.key))),
          ...[...doomed].map((key): Operation => ({ kind: 'delete', key })),
        ],
        answer: { purged, left },
      };
    },
  };
};

/** Forgets what has rested, a transaction's worth at a time. Answers how many. */
export const forgetRested = (terms: LeaseTerms): Rule<number> => ({
  reads: EXPIRY_READS,
  decide: (state) => {
    const clock = clockOf(state);
    const rested = state
      .leases()
      .filter(({ value }) => !isHeld(value) && isRested(value, clock, terms))
      .slice(0, MAX_OPERATIONS);
    return {
      compares: rested.map(({ key }) => state.unchanged(key)),
      operations: rested.map(({ key }) => ({ kind: 'delete', key })),
      answer: rested.length,
    };
  },
});
