// How nodes come onto networks and what share of the pools they hold. Whoever leases compares that no other lease of
// the network was written meanwhile, so two nodes never hold overlapping prefixes, however their calls interleave.

import { Vl3Error } from '../error.ts';
import { parseAddress, parsePrefix, prefixContains } from '../ipam/prefix.ts';
import { clockOf } from './clock-rules.ts';
import { constraintsOf, joiningReads, mustBeOfFederation, mustBeWelcome } from './foreign-rules.ts';
import { all, below, identityKey, keys, one } from './keys.ts';
import { type Choice, type ChoosePrefix, choose, FAMILIES, familyOfText } from './lease-choice.ts';
import { freed, isConfirmed, isHeld, renewed } from './lease-phase.ts';
import {
  type Clock,
  check,
  type Lease,
  lease as leaseSchema,
  MAX_LEASES,
  member as memberSchema,
  type Network,
  name as nameSchema,
  prefix as prefixSchema,
  REQUEST_ID,
  tombstone as tombstoneSchema,
} from './model.ts';
import { familyOf } from './network-rules.ts';
import { mustIssue, recoveryOf } from './recovery-rules.ts';
import { mustBeEnrolled, mustBeMember, mustBeNetwork, put, type Rule, settled } from './rules.ts';
import type { State, Stored } from './state.ts';
import type { Operation } from './transaction.ts';

export interface Membership {
  readonly network: Network;
  readonly networkRevision: number;
  readonly leases: readonly Lease[];
  /** Since when; 0: a registry that lost its memory took it from what the node holds. */
  readonly joinedAt: number;
}

/** Of a node's: what nobody else can have. */
export const heldBy = (node: string, leases: readonly Stored<Lease>[]): Lease[] =>
  leases.map(({ value }) => value).filter((lease) => lease.node === node && isHeld(lease));

const leasing = (lease: Lease, { replaced }: Choice): Operation[] => [
  put(keys.lease(lease.network, lease.prefix), leaseSchema, lease),
  ...replaced.map((key) => ({ kind: 'delete', key }) as const),
];

/** The operations that give a lease its full term; none when it just got it. */
const renewing = (lease: Lease, clock: Clock): Operation[] =>
  lease.renewedAt === clock.elapsed && lease.endedAt === undefined
    ? []
    : [put(keys.lease(lease.network, lease.prefix), leaseSchema, renewed(lease, clock))];

/**
 * Membership and a first prefix of each family, in one transaction; repeated, it answers the same, and what it answers
 * has its full term again. While the registry recovers it answers only what the node has confirmed.
 */
export const joinNetwork = (
  network: string,
  node: string,
  now: number,
  choosePrefix: ChoosePrefix,
): Rule<Membership> => {
  check(nameSchema, network, 'network');
  const memberKey = keys.member(network, node);
  return {
    reads: [
      one(keys.domain),
      one(keys.clock),
      one(identityKey(node)),
      one(keys.network(network)),
      one(memberKey),
      one(keys.tombstone(network, node)),
      all(below.leases(network)),
      all(below.federations),
      ...joiningReads(network, node),
    ],
    decide: (state) => {
      mustBeEnrolled(state, node);
      // Before anything is said of the network.
      mustBeOfFederation(state, network, node);
      const { value, revision } = mustBeNetwork(state, network);
      const constraints = constraintsOf(state, node);
      const clock = clockOf(state);
      const since = recoveryOf(state)?.since;
      const existing = state.leases(network);
      const own = heldBy(node, existing);
      const operations: Operation[] = [];
      const member = state.member(network, node)?.value;
      if (member === undefined) {
        mustIssue(state, 'membership');
        mustBeWelcome(state, network, node);
        const { grantSequence } = state.tombstone(network, node)?.value ?? {};
        const before = grantSequence === undefined ? {} : { grantSequence };
        operations.push(put(memberKey, memberSchema, { network, node, joinedAt: now, ...before }));
      }
      if (since !== undefined && !own.every((lease) => isConfirmed(lease, since))) mustIssue(state, 'prefix');
      operations.push(...own.flatMap((lease) => renewing(lease, clock)));
      for (const family of FAMILIES) {
        if (familyOf(value, family) === undefined) continue;
        if (own.some(({ prefix }) => familyOfText(prefix) === family)) continue;
        mustIssue(state, 'prefix');
        const choice = choose(state, value, family, { node, existing, constraints }, choosePrefix);
        const { prefix } = choice;
        const lease: Lease = { network, node, prefix, leasedAt: now, renewedAt: clock.elapsed };
        own.push(lease);
        operations.push(...leasing(lease, choice));
      }
      const answer = {
        network: value,
        networkRevision: revision,
        leases: own.map((lease) => renewed(lease, clock)),
        joinedAt: member?.joinedAt ?? now,
      };
      if (operations.length === 0) return settled(answer);
      return {
        compares: [
          state.unchanged(keys.domain),
          state.unchanged(identityKey(node)),
          state.unchanged(keys.network(network)),
          state.unchanged(memberKey),
          state.noneNewer(below.leases(network)),
          ...(constraints === undefined ? [] : [state.unchanged(keys.ruleset(network))]),
        ],
        operations,
        answer,
      };
    },
  };
};

/** Another prefix. The same request id gets the same prefix again, with its full term, until it is given back. */
export const leasePrefix = (
  request: {
    readonly network: string;
    readonly node: string;
    readonly family: number;
    readonly requestId: string;
  },
  now: number,
  choosePrefix: ChoosePrefix,
): Rule<Lease> => {
  const { network, node, requestId } = request;
  check(nameSchema, network, 'network');
  const family = FAMILIES.find((known) => known === request.family);
  if (family === undefined)
    throw new Vl3Error('invalid-argument', `family: use 4 or 6, not ${request.family}`);
  if (!REQUEST_ID.test(requestId)) {
    throw new Vl3Error('invalid-argument', 'request_id: use 1 to 64 letters, digits, ".", "-" or "_"');
  }
  return {
    reads: [
      one(keys.domain),
      one(keys.clock),
      one(identityKey(node)),
      one(keys.network(network)),
      one(keys.member(network, node)),
      all(below.leases(network)),
      all(below.federations),
    ],
    decide: (state) => {
      mustBeEnrolled(state, node);
      mustBeMember(state, network, node);
      const { value } = mustBeNetwork(state, network);
      const constraints = constraintsOf(state, node);
      const clock = clockOf(state);
      const compares = [
        state.unchanged(keys.domain),
        state.unchanged(identityKey(node)),
        state.unchanged(keys.network(network)),
        state.unchanged(keys.member(network, node)),
        state.noneNewer(below.leases(network)),
      ];
      const existing = state.leases(network);
      const own = heldBy(node, existing);
      const answered = own.find((lease) => lease.requestId === requestId);
      if (answered !== undefined && familyOfText(answered.prefix) !== family) {
        throw new Vl3Error('invalid-argument', `request_id: "${requestId}" leased ${answered.prefix} before`);
      }
      const since = recoveryOf(state)?.since;
      if (answered === undefined || (since !== undefined && !isConfirmed(answered, since))) {
        mustIssue(state, 'prefix');
      }
      if (answered !== undefined) {
        return { compares, operations: renewing(answered, clock), answer: renewed(answered, clock) };
      }
      if (own.filter(({ prefix }) => familyOfText(prefix) === family).length >= MAX_LEASES) {
        throw new Vl3Error(
          'resource-exhausted',
          `node "${node}" holds ${MAX_LEASES} IPv${family} prefixes of network "${network}" already, which is the most`,
        );
      }
      const choice = choose(state, value, family, { node, existing, constraints }, choosePrefix);
      const { prefix } = choice;
      const lease: Lease = {
        network,
        node,
        prefix,
        leasedAt: now,
        requestId,
        renewedAt: clock.elapsed,
      };
      return { compares, operations: leasing(lease, choice), answer: lease };
    },
  };
};

/**
 * Gives a prefix back that nothing uses: neither the node's record nor an attachment. From then on it rests. Repeated, it
 * does nothing.
 */
export const releasePrefix = (network: string, node: string, prefix: string): Rule<void> => {
  check(nameSchema, network, 'network');
  check(prefixSchema, prefix, 'prefix');
  const parsed = parsePrefix(prefix);
  const leaseKey = keys.lease(network, prefix);
  const attached = below.attachments(network, node);
  return {
    reads: [
      one(keys.clock),
      one(identityKey(node)),
      one(keys.member(network, node)),
      one(leaseKey),
      one(keys.record(network, node)),
      all(attached),
    ],
    decide: (state) => {
      mustBeEnrolled(state, node);
      mustBeMember(state, network, node);
      const lease = state.lease(network, prefix);
      if (lease === undefined || (lease.value.node === node && !isHeld(lease.value)))
        return settled(undefined);
      if (lease.value.node !== node) {
        throw new Vl3Error('permission-denied', `${prefix} is not leased to node "${node}"`);
      }
      if (state.record(network, node)?.value.prefixes.some((claim) => claim.prefix === prefix)) {
        throw new Vl3Error(
          'failed-precondition',
          `node "${node}" still announces ${prefix}: announce a record without it first`,
        );
      }
      const user = state
        .attachments(network, node)
        .find(({ value }) => value.addresses.some((text) => prefixContains(parsed, parseAddress(text))));
      if (user !== undefined) {
        throw new Vl3Error(
          'failed-precondition',
          `attachment ${user.value.id} has an address in ${prefix}: detach it first`,
        );
      }
      return {
        compares: [
          state.unchanged(leaseKey),
          state.unchanged(keys.record(network, node)),
          state.noneNewer(attached),
        ],
        operations: [put(leaseKey, leaseSchema, freed(lease.value, clockOf(state)))],
        answer: undefined,
      };
    },
  };
};

export const membershipReads = (network: string, node: string) => [
  one(keys.clock),
  one(identityKey(node)),
  one(keys.member(network, node)),
  one(keys.record(network, node)),
  one(keys.tombstone(network, node)),
  one(keys.grant(network, node)),
  all(below.leases(network)),
];

/**
 * Record, names and attachments go, and a tombstone says so to those who held the record; the prefixes rest.
 */
export const endMembership = (state: State, network: string, node: string, now: number) => {
  const clock = clockOf(state);
  const leases = heldBy(node, state.leases(network));
  const recordSequence = Math.max(
    state.record(network, node)?.value.sequence ?? 0,
    state.tombstone(network, node)?.value.recordSequence ?? 0,
  );
  const grantSequence = Math.max(
    state.grant(network, node)?.value.sequence ?? 0,
    state.member(network, node)?.value.grantSequence ?? 0,
    state.tombstone(network, node)?.value.grantSequence ?? 0,
  );
  return {
    // No new lease of this node can come meanwhile unnoticed: leasing compares the membership.
    compares: [
      state.unchanged(keys.member(network, node)),
      state.unchanged(keys.record(network, node)),
      state.noneNewer(below.leases(network)),
    ],
    operations: [
      { kind: 'delete', key: keys.member(network, node) },
      { kind: 'delete', key: keys.record(network, node) },
      { kind: 'delete', key: keys.names(network, node) },
      { kind: 'delete-prefix', prefix: below.attachments(network, node) },
      { kind: 'delete-prefix', prefix: below.decisions(network, node) },
      { kind: 'delete', key: keys.grant(network, node) },
      ...leases.map((lease) => put(keys.lease(network, lease.prefix), leaseSchema, freed(lease, clock))),
      put(keys.tombstone(network, node), tombstoneSchema, {
        ...{ network, node, removedAt: now, recordSequence },
        ...(grantSequence > 0 && { grantSequence }),
      }),
    ] satisfies Operation[],
    answer: leases,
  };
};

/**
 * The node itself leaves the membership that began at `joinedAt`, or, with 0, whichever there is. Repeated, or come so late
 * that the node has joined again, it does nothing. Answers the prefixes that became free.
 */
export const leaveNetwork = (
  network: string,
  node: string,
  now: number,
  joinedAt = 0,
): Rule<readonly Lease[]> => {
  check(nameSchema, network, 'network');
  return {
    reads: membershipReads(network, node),
    decide: (state) => {
      mustBeEnrolled(state, node);
      const member = state.member(network, node)?.value;
      if (member === undefined || (joinedAt > 0 && member.joinedAt > joinedAt)) return settled([]);
      return endMembership(state, network, node, now);
    },
  };
};

/** What remains of a deleted node on one network; see deleteNode in node-rules.ts. */
export const removeMember = (network: string, node: string, now: number): Rule<readonly Lease[]> => ({
  reads: membershipReads(network, node),
  decide: (state) => {
    const deleted = state.node(node)?.value.deletedAt !== undefined;
    if (!deleted || state.member(network, node) === undefined) return settled([]);
    return endMembership(state, network, node, now);
  },
});
