// A node says what it holds on one network. What the registry leased to it has its full term again; what nobody else holds
// becomes its again. While the registry recovers, what a node does not name, or names as expired, it does not hold.

import { Vl3Error } from '../error.ts';
import { type FederationConstraints, networkProblem, prefixProblem } from '../federation/constraints.ts';
import { parsePrefix } from '../ipam/prefix.ts';
import { type Claim, Claims } from './claim.ts';
import { clockOf } from './clock-rules.ts';
import { foreignDomainOf } from './foreign-key.ts';
import {
  constraintsOf,
  type HeldPrefix,
  heldPrefixes,
  joiningReads,
  mustBeWelcome,
  mustLeaveRoom,
} from './foreign-rules.ts';
import { all, below, identityKey, keys, one } from './keys.ts';
import { freed, isConfirmed, renewed } from './lease-phase.ts';
import { endMembership, heldBy } from './lease-rules.ts';
import {
  check,
  type Lease,
  lease as leaseSchema,
  MAX_LEASES,
  member as memberSchema,
  type Network,
  name as nameSchema,
} from './model.ts';
import { familyOf } from './network-rules.ts';
import { recoveryOf } from './recovery-rules.ts';
import { mustBeEnrolled, put, type Rule, settled } from './rules.ts';
import type { State, Stored } from './state.ts';
import type { Compare, Operation } from './transaction.ts';
import { withdrawal } from './withdrawal.ts';

/** What a node holds on one network, and the network as it last heard of it. */
export interface Holding {
  readonly network: Network;
  /** The node knows it as one that does not admit everyone of the home domain. */
  readonly isRestricted?: boolean;
  readonly leases: readonly Claim[];
}

export interface LeaseAnswer {
  readonly prefix: string;
  /** Pending: the registry recovers and cannot tell yet. Lost: another's, or the network or the membership is gone. */
  readonly outcome: 'renewed' | 'pending' | 'lost';
  readonly reason: string;
}

export interface Renewal {
  readonly answers: readonly LeaseAnswer[];
  /** What an admin should know, in sentences. */
  readonly conflicts: readonly string[];
}

const LONGEST_TIME = 8_640_000_000_000_000;
/** What the leases of one transaction may take of it; the rest is membership, network and record. */
const MAX_LEASE_OPERATIONS = 112;

const checkClaims = (leases: readonly Claim[]): void => {
  if (leases.length > MAX_LEASES * 2) {
    throw new Vl3Error(
      'invalid-argument',
      `holdings: a node has at most ${MAX_LEASES * 2} leases on one network`,
    );
  }
  const seen = new Set<string>();
  for (const { prefix, leasedAt } of leases) {
    if (seen.has(prefix)) throw new Vl3Error('invalid-argument', `holdings: ${prefix} comes twice`);
    seen.add(prefix);
    if (!(leasedAt >= 0 && leasedAt <= LONGEST_TIME)) {
      throw new Vl3Error('invalid-argument', `holdings: the leased_at of ${prefix} is no time`);
    }
  }
};

/** `now` is unix ms. Throws Vl3Error('invalid-argument') for what no node can hold. */
export const renewHolding = (node: string, holding: Holding, now: number): Rule<Renewal> => {
  const { leases: claims } = holding;
  const name = check(nameSchema, holding.network.name, 'network');
  checkClaims(claims);
  for (const { prefix, leasedAt, requestId } of claims) {
    check(leaseSchema, { network: name, node, prefix, leasedAt, requestId }, 'holdings');
  }
  const memberKey = keys.member(name, node);
  const tombstoneKey = keys.tombstone(name, node);
  const recordKey = keys.record(name, node);
  const refuse = (outcome: 'pending' | 'lost', reason: string, isConflict: boolean) =>
    settled<Renewal>({
      answers: claims.map(({ prefix }) => ({ prefix, outcome, reason })),
      conflicts: isConflict ? [reason] : [],
    });
  return {
    reads: [
      one(keys.domain),
      one(keys.clock),
      one(identityKey(node)),
      one(keys.network(name)),
      one(memberKey),
      one(tombstoneKey),
      one(recordKey),
      all(below.leases(name)),
      ...joiningReads(name, node),
    ],
    decide: (state) => {
      mustBeEnrolled(state, node);
      const since = recoveryOf(state)?.since;
      const constraints = constraintsOf(state, node);
      const problem = constraints && networkProblem(constraints, name);
      if (problem !== undefined) return refuse('lost', problem, false);
      const network = state.network(name)?.value;
      if (network === undefined) {
        const reason = `there is no network "${name}"`;
        return refuse(since === undefined ? 'lost' : 'pending', reason, since !== undefined);
      }
      if (differs(network, holding.network)) {
        const remedy =
          since === undefined
            ? 'detach what is on it at the node, which then joins the one here'
            : 'delete the one here to have it back, or detach what is on it at the node';
        const reason = `network "${name}" is another one here (${network.uid}, not ${holding.network.uid}): ${remedy}`;
        // Not lost: the one has nothing to do with the other, and what runs there runs on until its leases end.
        return refuse('pending', reason, since !== undefined);
      }
      const isMember = state.member(name, node) !== undefined;
      // Whoever is of another domain is not believed to be what nobody here remembers.
      const isUnknown = constraints !== undefined || state.tombstone(name, node) !== undefined;
      if (!isMember && since === undefined && isUnknown) {
        return refuse('lost', `node "${node}" is not on network "${name}" any more`, false);
      }
      const obstacle = isMember ? undefined : joiningProblem(state, name, node);
      if (obstacle !== undefined) return refuse('pending', obstacle, false);
      const operations: Operation[] = [];
      const compares: Compare[] = [
        ...[keys.domain, identityKey(node), keys.network(name), memberKey, tombstoneKey, recordKey].map(
          (key) => state.unchanged(key),
        ),
        state.noneNewer(below.leases(name)),
      ];
      if (!isMember) operations.push(put(memberKey, memberSchema, { network: name, node, joinedAt: 0 }));
      const plan = renewOn(state, { node, constraints }, network, claims, since);
      operations.push(...plan.operations);
      operations.push(...withdrawal(state, name, node, plan.freed, now));
      const answer = { answers: plan.answers, conflicts: plan.conflicts };
      return operations.length === 0 ? settled(answer) : { compares, operations, answer };
    },
  };
};

const renewOn = (
  state: State,
  { node, constraints }: { readonly node: string; readonly constraints: FederationConstraints | undefined },
  network: Network,
  claims: readonly Claim[],
  since: number | undefined,
) => {
  const clock = clockOf(state);
  const existing = state.leases(network.name);
  const claimOf = new Map(claims.map((claim) => [claim.prefix, claim]));
  const operations: Operation[] = [];
  const answers: LeaseAnswer[] = [];
  const conflicts: string[] = [];
  const freedPrefixes: string[] = [];
  const save = (lease: Lease) => put(keys.lease(network.name, lease.prefix), leaseSchema, lease);

  const kept: string[] = [];
  for (const lease of heldBy(node, existing)) {
    const mayBeAnothers =
      since !== undefined && !isConfirmed(lease, since) && claimOf.get(lease.prefix)?.isExpired;
    const isOutside = constraints && prefixProblem(constraints, parsePrefix(lease.prefix)) !== undefined;
    const isKept = isOutside ? false : since === undefined || (claimOf.has(lease.prefix) && !mayBeAnothers);
    if (isKept) kept.push(lease.prefix);
    else {
      freedPrefixes.push(lease.prefix);
      operations.push(save(freed(lease, clock)));
    }
  }
  const freedKeys = new Set(freedPrefixes.map((prefix) => keys.lease(network.name, prefix)));
  const present: Stored<Lease>[] = existing.map((lease) =>
    freedKeys.has(lease.key) ? { ...lease, value: freed(lease.value, clock) } : lease,
  );
  const deciding = new Claims(node, network, present, kept, since);
  const replacedKeys = new Set<string>();
  const mine = [...kept];
  const foreign = constraints === undefined ? [] : heldPrefixes(present, constraints.trustDomain);
  for (const claim of claims) {
    const { prefix } = claim;
    const own = kept.includes(prefix) ? state.lease(network.name, prefix)?.value : undefined;
    if (own !== undefined) {
      // Until it is confirmed, the node knows better than an older copy when it was leased.
      const knowsBetter = since !== undefined && !isConfirmed(own, since);
      const isFresh = own.renewedAt === clock.elapsed && own.endedAt === undefined && !knowsBetter;
      if (!isFresh) operations.push(save(renewed(knowsBetter ? { ...own, ...asLeased(claim) } : own, clock)));
      answers.push({ prefix, outcome: 'renewed', reason: '' });
      continue;
    }
    if (claim.isExpired && since !== undefined) {
      const reason = 'its term is over, and the registry that recovers does not know whose it is now';
      answers.push({ prefix, outcome: 'pending', reason });
      continue;
    }
    const holdings = { node, network, present: foreign, mine };
    // Home's own nodes are heard first: what is kept for the domain, they do not hold.
    if (constraints?.prefixes.length === 0 && since !== undefined) {
      const reason = 'the registry that recovers does not take the word of another domain for it';
      answers.push({ prefix, outcome: 'pending', reason });
      continue;
    }
    const refusal = constraints && foreignProblem(constraints, claim, holdings, since);
    if (refusal !== undefined) {
      answers.push({ prefix, outcome: 'lost', reason: refusal });
      continue;
    }
    if (operations.length + replacedKeys.size >= MAX_LEASE_OPERATIONS) {
      answers.push({ prefix, outcome: 'pending', reason: 'the node said too much at once' });
      continue;
    }
    const decision = deciding.decide(claim);
    if (decision.kind !== 'granted') {
      answers.push({ prefix, outcome: decision.kind, reason: decision.reason });
      conflicts.push(decision.reason);
      continue;
    }
    for (const key of decision.replaced) replacedKeys.add(key);
    mine.push(prefix);
    operations.push(
      save({
        network: network.name,
        node,
        prefix,
        ...asLeased(claim),
        renewedAt: clock.elapsed,
        ...(since !== undefined && { claimedAt: clock.elapsed }),
      }),
    );
    answers.push({ prefix, outcome: 'renewed', reason: '' });
  }
  return {
    operations: withoutReplaced(operations, replacedKeys),
    answers,
    conflicts,
    freed: freedPrefixes,
  };
};

/** Why a node of another domain does not get what it says it holds, and the registry does not know of. */
const foreignProblem = (
  constraints: FederationConstraints,
  { prefix }: Claim,
  { node, network, present, mine }: ForeignHoldings,
  since: number | undefined,
): string | undefined => {
  if (since === undefined)
    return `${prefix} is not leased to it: what another domain's node says proves nothing`;
  const parsed = parsePrefix(prefix);
  const of = familyOf(network, parsed.family);
  // What lies in no pool is refused as everybody's.
  if (of === undefined) return undefined;
  const granted = mine.map((one) => ({ node, parsed: parsePrefix(one) }));
  return (
    prefixProblem(constraints, parsed) ??
    problemOf(() =>
      mustLeaveRoom(constraints, node, { pool: of.pool, length: parsed.length }, [
        ...present.filter((one) => one.node !== node),
        ...granted,
      ]),
    )
  );
};

interface ForeignHoldings {
  readonly node: string;
  readonly network: Network;
  readonly present: readonly HeldPrefix[];
  /** What the node has by now. */
  readonly mine: readonly string[];
}

/** In a recovery a node of another domain becomes a member again only where it could join. */
const joiningProblem = (state: State, network: string, node: string): string | undefined =>
  foreignDomainOf(node) === undefined ? undefined : problemOf(() => mustBeWelcome(state, network, node));

/** The sentence that it is refused with. */
const problemOf = (ask: () => void): string | undefined => {
  try {
    ask();
    return undefined;
  } catch (error) {
    if (error instanceof Vl3Error && error.code !== 'internal') return error.message;
    throw error;
  }
};

/** A lease that this very transaction frees can be one that a claim takes the place of: then it only goes. */
const withoutReplaced = (operations: readonly Operation[], replaced: ReadonlySet<string>): Operation[] => [
  ...operations.filter((operation) => !(operation.kind === 'put' && replaced.has(operation.key))),
  ...[...replaced].map((key): Operation => ({ kind: 'delete', key })),
];

const asLeased = ({ leasedAt, requestId }: Claim) => ({
  leasedAt,
  ...(requestId !== undefined && { requestId }),
});

/** Names, uids and pools never change; the rest may have been updated since the node heard of it. */
const differs = (known: Network, told: Network): boolean =>
  known.uid !== told.uid || known.poolV4 !== told.poolV4 || known.poolV6 !== told.poolV6;

/** In a recovery: the node says that it is not on a network, which the registry believed it to be. */
export const disownMembership = (network: string, node: string, now: number): Rule<readonly Lease[]> => ({
  reads: [
    one(keys.domain),
    one(keys.clock),
    one(identityKey(node)),
    one(keys.member(network, node)),
    one(keys.record(network, node)),
    one(keys.tombstone(network, node)),
    one(keys.grant(network, node)),
    all(below.leases(network)),
  ],
  decide: (state) => {
    mustBeEnrolled(state, node);
    if (recoveryOf(state) === undefined || state.member(network, node) === undefined) return settled([]);
    return endMembership(state, network, node, now);
  },
});
