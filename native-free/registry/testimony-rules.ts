// What others have heard of a node, given to a registry that lost its memory: a record that the node itself signed restores
// it, its membership and its leases, until it speaks for itself. A tombstone, a deletion and a later record hold against it.

import { Vl3Error } from '../error.ts';
import { Claims } from './claim.ts';
import { foreignDomainOf } from './foreign-key.ts';
import { mustBeForDomain, mustBeOfFederation } from './foreign-rules.ts';
import { all, below, identityKey, keys, one } from './keys.ts';
import { isConfirmed } from './lease-phase.ts';
import { heldBy } from './lease-rules.ts';
import {
  type Certificate,
  check,
  lease as leaseSchema,
  member as memberSchema,
  type Node,
  name as nameSchema,
  node as nodeSchema,
  report as reportSchema,
  type StoredRecord,
  storedRecord,
} from './model.ts';
import { newReport, recoveryOf } from './recovery-rules.ts';
import { mustBeEnrolled, mustBeMember, mustBeNetwork, put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import type { Operation } from './transaction.ts';

export interface Testimony {
  readonly network: string;
  /** As the registry knows the network; the record names the same. */
  readonly networkUid: string;
  /** Whose record it is, by its signature. */
  readonly node: string;
  readonly spiffeId: string;
  readonly certificate: Certificate;
  /** Verified at this moment. */
  readonly record: StoredRecord;
}

export type Verdict = 'restored' | 'known' | 'refused';

/** `witness`: the node that testifies, itself on the network. `now` is unix ms. */
export const testify = (witness: string, testimony: Testimony, now: number): Rule<Verdict> => {
  const { network, node, record } = testimony;
  check(nameSchema, network, 'network');
  check(storedRecord, record, 'record');
  const touched = [
    identityKey(node),
    keys.member(network, node),
    keys.record(network, node),
    keys.tombstone(network, node),
    keys.report(node),
  ];
  return {
    reads: [
      one(keys.domain),
      one(keys.clock),
      one(keys.node(witness)),
      one(keys.member(network, witness)),
      one(keys.network(network)),
      ...touched.map(one),
      all(below.leases(network)),
    ],
    decide: (state) => {
      mustBeEnrolled(state, witness);
      const { value: definition } = mustBeNetwork(state, network);
      mustBeMember(state, network, witness);
      const since = recoveryOf(state)?.since;
      const report = state.report(node)?.value;
      // A node that has spoken since knows best what it is and holds.
      if (since === undefined || report?.reportedAt !== undefined) return settled('known');
      const isForeign = foreignDomainOf(node) !== undefined;
      if (isForeign && !mayHold(state, network, node, record)) return settled('refused');
      const known = isForeign ? undefined : state.node(node)?.value;
      const current = state.record(network, node)?.value;
      if (current !== undefined && current.sequence >= record.sequence) return settled('known');
      if (
        definition.uid !== testimony.networkUid ||
        known?.deletedAt !== undefined ||
        known?.refused.some(({ serial }) => serial === testimony.certificate.serial) ||
        (state.tombstone(network, node)?.value.recordSequence ?? -1) >= record.sequence
      ) {
        return settled('refused');
      }
      const existing = state.leases(network);
      const own = new Map(heldBy(node, existing).map((lease) => [lease.prefix, lease]));
      const deciding = new Claims(node, definition, existing, [...own.keys()], since);
      const operations: Operation[] = [];
      for (const claim of record.prefixes) {
        const { prefix, leasedAt } = claim;
        const before = own.get(prefix);
        if (before !== undefined && (before.leasedAt === leasedAt || isConfirmed(before, since))) continue;
        if (before === undefined) {
          const decision = deciding.decide(claim);
          if (decision.kind !== 'granted') return settled('refused');
          for (const key of decision.replaced) operations.push({ kind: 'delete', key });
        }
        // From before the recovery: its node has not confirmed it.
        const lease = { network, node, prefix, leasedAt, renewedAt: since - 1 };
        operations.push(put(keys.lease(network, prefix), leaseSchema, lease));
      }
      operations.push(put(keys.record(network, node), storedRecord, record));
      if (state.tombstone(network, node) !== undefined) {
        operations.push({ kind: 'delete', key: keys.tombstone(network, node) });
      }
      if (known === undefined && !isForeign) {
        const { spiffeId, certificate } = testimony;
        const restored: Node = {
          name: check(nameSchema, node, 'node'),
          spiffeId,
          enrolledAt: now,
          certificates: [certificate],
          refused: [],
        };
        operations.push(
          put(keys.node(node), nodeSchema, restored),
          put(keys.report(node), reportSchema, { ...newReport(node), ...report, adopted: true }),
        );
      }
      if (state.member(network, node) === undefined) {
        operations.push(put(keys.member(network, node), memberSchema, { network, node, joinedAt: 0 }));
      }
      return {
        compares: [
          ...[keys.domain, keys.network(network), ...touched].map((key) => state.unchanged(key)),
          state.noneNewer(below.leases(network)),
        ],
        operations,
        answer: 'restored',
      };
    },
  };
};

/** Of a node of another domain only what the federation with it allows is believed, whoever says it. */
const mayHold = (state: State, network: string, node: string, { prefixes }: StoredRecord): boolean => {
  try {
    mustBeOfFederation(state, network, node);
    mustBeForDomain(
      state,
      node,
      prefixes.map(({ prefix }) => prefix),
    );
    return true;
  } catch (error) {
    if (error instanceof Vl3Error && error.code === 'permission-denied') return false;
    throw error;
  }
};
