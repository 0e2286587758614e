// A node's life once it is enrolled: renewal of its SVID, heartbeats, deletion. Its identity is a name and the
// certificates issued for it; those of a deleted node, or of an enrolment before the present one, are refused.

import { NotEnrolled, Vl3Error } from '../error.ts';
import { all, below, identityKey, keys, one } from './keys.ts';
import {
  type Certificate,
  check,
  liveness as livenessSchema,
  MAX_CERTIFICATES,
  type Node,
  name as nameSchema,
  node as nodeSchema,
  type Sighting,
  sighting as sightingSchema,
} from './model.ts';
import { enrolledNode, mustBeEnrolled, put, type Rule, settled } from './rules.ts';
import { MAX_OPERATIONS, type Operation } from './transaction.ts';

export const unexpired = (certificates: readonly Certificate[], now: number): Certificate[] =>
  certificates.filter(({ notAfter }) => notAfter > now);

export const addCertificate = (
  certificates: readonly Certificate[],
  added: Certificate,
  now: number,
): Certificate[] => {
  const kept = unexpired(certificates, now);
  if (kept.length >= MAX_CERTIFICATES) {
    throw new Vl3Error(
      'resource-exhausted',
      `the node has ${MAX_CERTIFICATES} SVIDs that have not expired: enrol it anew (\`vl3 token create --node\`), which ends them all`,
    );
  }
  return [...kept, added];
};

/** So many SVIDs a node gets as soon as it asks. */
const UNHURRIED_CERTIFICATES = MAX_CERTIFICATES / 2;
/** After those so many in the time that one of them lasts: with a few to spare, the list never fills up. */
const SLOW_RENEWALS = MAX_CERTIFICATES / 2 - 8;

/**
 * A node that renews in a loop, because it never gets to keep what it is given, has to wait longer and longer, but never for
 * as long as the SVID that it does hold lasts.
 */
export const mustNotHurry = (
  certificates: readonly Certificate[],
  { notAfter }: Certificate,
  now: number,
): void => {
  const kept = unexpired(certificates, now);
  if (kept.length < UNHURRIED_CERTIFICATES) return;
  // Those that end later were given out when the clock was ahead: they say nothing about when the last one was.
  const newest = Math.max(0, ...kept.map((one) => one.notAfter).filter((end) => end <= notAfter));
  const wait = newest + (notAfter - now) / SLOW_RENEWALS - notAfter;
  if (wait <= 0) return;
  throw new Vl3Error(
    'resource-exhausted',
    `the node has ${kept.length} SVIDs that have not expired, and gets the next one in ${Math.ceil(wait / 60_000)} min: is its clock right?`,
  );
};

/** Notes a fresh SVID of an enrolled node. */
export const renew = (name: string, certificate: Certificate, now: number): Rule<Node> => {
  const key = keys.node(name);
  return {
    reads: [one(key)],
    decide: (state) => {
      const node = enrolledNode(state, name).value;
      mustNotHurry(node.certificates, certificate, now);
      const value = { ...node, certificates: addCertificate(node.certificates, certificate, now) };
      return { compares: [state.unchanged(key)], operations: [put(key, nodeSchema, value)], answer: value };
    },
  };
};

/**
 * Whether a certificate that the CA signed for this name still is the node's identity. A certificate that is on neither
 * list passes: a store restored from a backup does not know the latest ones, nor an enrolment after a deletion that it knows.
 */
export const checkIdentity = (name: string, serial: string): Rule<Node> => ({
  reads: [one(keys.node(name))],
  decide: (state) => {
    const known = state.node(name)?.value;
    // Whoever it says was deleted takes down what it has: so it has to know which enrolment that was.
    if (known?.deletedAt !== undefined && !hasSerial(known, serial)) {
      throw new NotEnrolled(
        'unknown',
        `node "${name}" was deleted, and this registry knows no enrolment since: start its agent with a new join token (\`vl3 token create\`)`,
      );
    }
    const node = enrolledNode(state, name).value;
    if (node.refused.some((refused) => refused.serial === serial)) {
      throw new Vl3Error(
        'unauthenticated',
        `this SVID of node "${name}" is from an earlier enrolment: use the present one, or enrol anew`,
      );
    }
    return settled(node);
  },
});

const hasSerial = ({ certificates, refused }: Node, serial: string): boolean =>
  [...certificates, ...refused].some((one) => one.serial === serial);

/** How old a written sighting may become while heartbeats come. */
export const SIGHTING_INTERVAL_MS = 60_000;

/** `lease`: the store lease that this heartbeat renewed or was granted. Most heartbeats write nothing. */
export const heartbeat = (
  node: string,
  lease: string,
  seen: { readonly agentVersion: string; readonly observedAddress: string },
  now: number,
): Rule<void> => {
  const nodeKey = identityKey(node);
  const livenessKey = keys.liveness(node);
  const sightingKey = keys.sighting(node);
  const sighting: Sighting = check(sightingSchema, { ...seen, seenAt: now }, 'heartbeat');
  return {
    reads: [one(nodeKey), one(livenessKey), one(sightingKey)],
    decide: (state) => {
      mustBeEnrolled(state, node);
      const operations: Operation[] = [];
      const alive = state.liveness(node);
      if (alive?.lease !== lease) {
        const since = alive?.value.since ?? now;
        operations.push(put(livenessKey, livenessSchema, { since }, lease));
      }
      const last = state.sighting(node)?.value;
      if (
        last === undefined ||
        last.agentVersion !== seen.agentVersion ||
        last.observedAddress !== seen.observedAddress ||
        Math.abs(now - last.seenAt) >= SIGHTING_INTERVAL_MS
      ) {
        operations.push(put(sightingKey, sightingSchema, sighting));
      }
      return operations.length === 0
        ? settled(undefined)
        : {
            compares: [state.unchanged(nodeKey), state.unchanged(livenessKey)],
            operations,
            answer: undefined,
          };
    },
  };
};

/**
 * The first step of a deletion: from here on the identity is refused. Answers the networks that `removeMember` must
 * still be called for; a deletion that was cut off there is finished by asking again.
 */
export const deleteNode = (name: string, now: number): Rule<readonly string[]> => {
  check(nameSchema, name, 'name');
  const key = keys.node(name);
  return {
    reads: [one(key), all(below.members())],
    decide: (state) => {
      const node = state.node(name)?.value;
      const networks = state
        .members()
        .filter(({ value }) => value.node === name)
        .map(({ value }) => value.network);
      const isOver = node?.deletedAt !== undefined && node.readmittedAt === undefined;
      if (node === undefined || (isOver && networks.length === 0)) {
        throw new Vl3Error('not-found', `there is no node "${name}": see \`vl3 node list\``);
      }
      if (isOver) return settled(networks);
      // One that was readmitted and has not come yet stays out, and keeps the time of its deletion.
      const { readmittedAt: _, deletedAt = now, ...rest } = node;
      return {
        compares: [state.unchanged(key)],
        operations: [
          put(key, nodeSchema, { ...rest, deletedAt }),
          { kind: 'delete', key: keys.liveness(name) },
          { kind: 'delete', key: keys.sighting(name) },
        ],
        answer: networks,
      };
    },
  };
};

/** Lets a deleted node come back by the word of its cluster: join tokens admit it anyway. Repeated, it does nothing. */
export const readmitNode = (name: string, now: number): Rule<void> => {
  check(nameSchema, name, 'name');
  const key = keys.node(name);
  return {
    reads: [one(key)],
    decide: (state) => {
      const node = state.node(name)?.value;
      if (node === undefined)
        throw new Vl3Error('not-found', `there was no node "${name}": it needs nobody's word to enrol`);
      if (node.deletedAt === undefined)
        throw new Vl3Error(
          'failed-precondition',
          `node "${name}" is not deleted: see \`vl3 node show ${name}\``,
        );
      if (node.readmittedAt !== undefined) return settled(undefined);
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, nodeSchema, { ...node, readmittedAt: now })],
        answer: undefined,
      };
    },
  };
};

/** With the usual terms longer than any record of the node can have been valid after it went. */
export const TOMBSTONE_MEMORY_MS = 30 * 24 * 60 * 60 * 1000;

/** Forgets tombstones of records that have long expired everywhere, a transaction's worth at a time. */
export const forgetTombstones = (now: number, memoryMs = TOMBSTONE_MEMORY_MS): Rule<void> => ({
  reads: [all(below.tombstones())],
  decide: (state) => {
    const old = state.tombstones().filter(({ value }) => value.removedAt + memoryMs <= now);
    const doomed = old.slice(0, MAX_OPERATIONS / 2);
    return {
      compares: doomed.map(({ key }) => state.unchanged(key)),
      operations: doomed.map(({ key }) => ({ kind: 'delete', key })),
      answer: undefined,
    };
  },
});
