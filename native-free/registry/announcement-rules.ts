// What a node says of itself on a network: its signed record, and what it has attached. Both must stay inside the
// prefixes it leased, and a transaction that loses a lease meanwhile fails.

import { Vl3Error } from '../error.ts';
import { parseAddress, parsePrefix, prefixContains } from '../ipam/prefix.ts';
import { admissionReads, Decisions, type Refusal } from './admission-decisions.ts';
import { clockOf } from './clock-rules.ts';
import { foreignDomainOf } from './foreign-key.ts';
import { MAX_FOREIGN_ADDRESSES, MAX_FOREIGN_ATTACHMENTS, mustBeForDomain } from './foreign-rules.ts';
import { all, below, identityKey, keys, one } from './keys.ts';
import { phaseOf } from './lease-phase.ts';
import {
  type Attachment,
  attachment as attachmentSchema,
  check,
  MAX_ATTACHMENTS,
  name as nameSchema,
  type StoredNames,
  type StoredRecord,
  storedNames,
  storedRecord,
  tombstone,
} from './model.ts';
import { mustBeEnrolled, mustBeMember, mustBeNetwork, put, type Rule, settled } from './rules.ts';
import { MAX_OPERATIONS, type Operation } from './transaction.ts';

/**
 * Stores a record whose signature, node, network and validity were verified. Its sequence must grow past every earlier
 * one, also past one that a tombstone names; the same bytes again change nothing. Answers the revision it has when it
 * was there already.
 */
export const putRecord = (network: string, node: string, record: StoredRecord): Rule<number | undefined> => {
  check(nameSchema, network, 'network');
  check(storedRecord, record, 'record');
  const leaseKeys = record.prefixes.map(({ prefix }) => keys.lease(network, prefix));
  const recordKey = keys.record(network, node);
  const tombstoneKey = keys.tombstone(network, node);
  return {
    reads: [
      one(keys.clock),
      one(identityKey(node)),
      one(keys.network(network)),
      one(keys.member(network, node)),
      one(recordKey),
      one(tombstoneKey),
      ...leaseKeys.map(one),
    ],
    decide: (state) => {
      mustBeEnrolled(state, node);
      mustBeNetwork(state, network);
      mustBeMember(state, network, node);
      mustBeForDomain(
        state,
        node,
        record.prefixes.map(({ prefix }) => prefix),
      );
      for (const { prefix, leasedAt } of record.prefixes) {
        const lease = state.lease(network, prefix)?.value;
        if (lease?.node !== node || phaseOf(lease, clockOf(state)) !== 'leased') {
          throw new Vl3Error('permission-denied', `record: ${prefix} is not leased to node "${node}"`);
        }
        // Of two claims to one prefix peers keep the older: its time is not for the node to choose.
        if (lease.leasedAt !== leasedAt) {
          throw new Vl3Error(
            'permission-denied',
            `record: ${prefix} was leased at ${lease.leasedAt}, not ${leasedAt}`,
          );
        }
      }
      const current = state.record(network, node);
      if (current?.value.record === record.record && current.value.sequence === record.sequence) {
        return settled(current.revision);
      }
      const buried = state.tombstone(network, node);
      const passed = Math.max(current?.value.sequence ?? 0, buried?.value.recordSequence ?? 0);
      if (record.sequence <= passed) {
        throw new Vl3Error(
          'failed-precondition',
          `record: its sequence ${record.sequence} must be past ${passed}, the last one announced`,
        );
      }
      const operations: Operation[] = [put(recordKey, storedRecord, record)];
      if (buried !== undefined) operations.push({ kind: 'delete', key: tombstoneKey });
      return {
        compares: [identityKey(node), keys.member(network, node), recordKey, tombstoneKey, ...leaseKeys].map(
          (key) => state.unchanged(key),
        ),
        operations,
        answer: undefined,
      };
    },
  };
};

/** The registry takes a record back that its node announced; a later one of the node's stands. */
export const withdrawRecord = (network: string, node: string, now: number): Rule<void> => {
  const [recordKey, tombstoneKey] = [keys.record(network, node), keys.tombstone(network, node)];
  return {
    reads: [one(recordKey), one(tombstoneKey)],
    decide: (state) => {
      const record = state.record(network, node)?.value;
      if (record === undefined) return settled(undefined);
      const recordSequence = Math.max(
        record.sequence,
        state.tombstone(network, node)?.value.recordSequence ?? 0,
      );
      return {
        compares: [recordKey, tombstoneKey].map((key) => state.unchanged(key)),
        operations: [
          { kind: 'delete', key: recordKey },
          put(tombstoneKey, tombstone, { network, node, removedAt: now, recordSequence }),
        ],
        answer: undefined,
      };
    },
  };
};

export interface AttachmentsAnswer {
  readonly remaining: number;
  readonly refused: readonly Refusal[];
  /** By which rules; 0: nobody has touched them. */
  readonly rulesetVersion: number;
  /** How many lines it put into the log of decisions. */
  readonly logged: number;
}

/** An attachment as the agent sends it; without a time, the stored one or now holds. */
export type AnnouncedAttachment = Omit<Attachment, 'network' | 'node' | 'attachedAt'> & {
  readonly attachedAt?: number;
};

/**
 * Makes the stored set what the node announced and the network's rules admit, a transaction's worth at a time: while
 * `remaining` is above 0, decide again. Doing it twice changes nothing. `trustDomain`: the home domain.
 */
export const putAttachments = (
  network: string,
  node: string,
  announced: readonly AnnouncedAttachment[],
  now: number,
  trustDomain = '',
): Rule<AttachmentsAnswer> => {
  check(nameSchema, network, 'network');
  const most = foreignDomainOf(node) === undefined ? MAX_ATTACHMENTS : MAX_FOREIGN_ATTACHMENTS;
  if (announced.length > most) {
    throw new Vl3Error(
      'resource-exhausted',
      `a node ${most < MAX_ATTACHMENTS ? 'of another domain ' : ''}has at most ${most} attachments on one network`,
    );
  }
  const mostAddresses = most < MAX_ATTACHMENTS ? MAX_FOREIGN_ADDRESSES : undefined;
  const wanted = new Map<string, Attachment>();
  const taken = new Set<string>();
  announced.forEach((item, index) => {
    const attachment = check(
      attachmentSchema,
      { ...item, network, node, attachedAt: item.attachedAt ?? now },
      `attachments[${index}]`,
    );
    if (wanted.has(attachment.id)) {
      throw new Vl3Error('invalid-argument', `attachments[${index}].id: "${attachment.id}" comes twice`);
    }
    if (mostAddresses !== undefined && attachment.addresses.length > mostAddresses) {
      throw new Vl3Error(
        'invalid-argument',
        `attachments[${index}].addresses: of another domain each has one of each family at most`,
      );
    }
    for (const address of attachment.addresses) {
      if (taken.has(address)) {
        throw new Vl3Error('invalid-argument', `attachments[${index}].addresses: ${address} comes twice`);
      }
      taken.add(address);
    }
    wanted.set(attachment.id, attachment);
  });
  const prefix = below.attachments(network, node);
  return {
    reads: [
      one(keys.clock),
      one(identityKey(node)),
      one(keys.member(network, node)),
      all(below.leases(network)),
      all(prefix),
      ...admissionReads(network, node),
    ],
    decide: (state) => {
      mustBeEnrolled(state, node);
      mustBeMember(state, network, node);
      const clock = clockOf(state);
      const leases = state
        .leases(network)
        .filter(({ value }) => value.node === node && phaseOf(value, clock) === 'leased');
      const own = leases.map(({ value }) => parsePrefix(value.prefix));
      for (const { id, addresses } of wanted.values()) {
        for (const address of addresses) {
          if (!own.some((prefix) => prefixContains(prefix, parseAddress(address)))) {
            throw new Vl3Error(
              'permission-denied',
              `attachment ${id}: ${address} is in no prefix leased to node "${node}"`,
            );
          }
        }
      }
      const existing = new Map(state.attachments(network, node).map(({ value }) => [value.id, value]));
      const operations: Operation[] = [];
      for (const id of existing.keys()) {
        if (!wanted.has(id)) operations.push({ kind: 'delete', key: keys.attachment(network, node, id) });
      }
      const decisions = Decisions.of(state, { network, node, trustDomain, now });
      const rulesetVersion = state.ruleset(network)?.value.version ?? 0;
      const refused: Refusal[] = [];
      let undecided = 0;
      announced.forEach((item) => {
        const attachment = wanted.get(item.id);
        if (attachment === undefined) return;
        const key = keys.attachment(network, node, item.id);
        const before = existing.get(item.id);
        const attachedAt = item.attachedAt ?? before?.attachedAt ?? now;
        const value: Attachment = { ...attachment, attachedAt };
        if (decisions !== undefined) {
          if (operations.length + decisions.size + Decisions.OPERATIONS >= MAX_OPERATIONS) {
            undecided++;
            return;
          }
          const reason = decisions.decide(value, before !== undefined);
          if (reason !== undefined) {
            refused.push({ id: item.id, reason });
            if (before !== undefined) operations.push({ kind: 'delete', key });
            return;
          }
        }
        if (before !== undefined && sameAttachment(before, value)) return;
        operations.push(put(key, attachmentSchema, value));
      });
      if (undecided === 0) {
        decisions?.forgetAllBut(new Set(wanted.keys()));
        decisions?.end();
      }
      // First, so that none of them is cut off.
      operations.unshift(...(decisions?.operations ?? []));
      if (operations.length === 0) return settled({ remaining: 0, refused, rulesetVersion, logged: 0 });
      return {
        compares: [
          state.unchanged(identityKey(node)),
          state.unchanged(keys.member(network, node)),
          state.noneNewer(prefix),
          ...leases.map(({ key }) => state.unchanged(key)),
          ...(decisions?.compares ?? [state.unchanged(keys.ruleset(network))]),
        ],
        operations: operations.slice(0, MAX_OPERATIONS),
        answer: {
          remaining: undecided + Math.max(0, operations.length - MAX_OPERATIONS),
          refused,
          rulesetVersion,
          logged: decisions?.logged ?? 0,
        },
      };
    },
  };
};

/**
 * Stores the signed names of a node's workloads, verified to be its own and this network's. Their sequence must grow; the
 * same again change nothing.
 */
export const putNames = (network: string, node: string, names: StoredNames): Rule<void> => {
  check(nameSchema, network, 'network');
  check(storedNames, names, 'names');
  const key = keys.names(network, node);
  return {
    reads: [one(identityKey(node)), one(keys.member(network, node)), one(key)],
    decide: (state) => {
      mustBeEnrolled(state, node);
      mustBeMember(state, network, node);
      const current = state.names(network, node)?.value;
      if (current?.names === names.names && current.sequence === names.sequence) return settled(undefined);
      if (current !== undefined && names.sequence <= current.sequence) {
        throw new Vl3Error(
          'failed-precondition',
          `names: their sequence ${names.sequence} must be past ${current.sequence}, the last one announced`,
        );
      }
      return {
        compares: [identityKey(node), keys.member(network, node), key].map((one) => state.unchanged(one)),
        operations: [put(key, storedNames, names)],
        answer: undefined,
      };
    },
  };
};

const sorted = (labels: Readonly<Record<string, string>>): string =>
  JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));

const sameAttachment = (a: Attachment, b: Attachment): boolean =>
  a.workload === b.workload &&
  a.interfaceName === b.interfaceName &&
  a.attachedAt === b.attachedAt &&
  a.namespace === b.namespace &&
  a.serviceAccount === b.serviceAccount &&
  a.addresses.join() === b.addresses.join() &&
  sorted(a.labels) === sorted(b.labels);
