// How networks come, change and go. A network's pools and identity never change; it goes only when no node is on it.

import { Vl3Error } from '../error.ts';
import {
  type Family,
  familyBits,
  formatPrefix,
  type Prefix,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
} from '../ipam/prefix.ts';
import { DOMAIN, OTHERS } from '../names/name.ts';
import { all, below, keys, one } from './keys.ts';
import { check, type Network, name as nameSchema, network as networkSchema } from './model.ts';
import { mustBeNetwork, put, type Rule, settled } from './rules.ts';
import type { State, Stored } from './state.ts';
import { nodeAddresses, SURROUNDINGS_READS } from './surroundings.ts';

/** As the admin wrote it: 0 and '' mean "not given". */
export interface NetworkRequest {
  readonly name: string;
  readonly poolV4: string;
  readonly poolV6: string;
  readonly nodePrefixLengthV4: number;
  readonly nodePrefixLengthV6: number;
  readonly excluded: readonly string[];
  readonly mtu: number;
}

const UNUSABLE = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/8',
  'fe80::/10',
  'ff00::/8',
].map(parsePrefix);
const PRIVATE = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '198.18.0.0/15',
  'fc00::/7',
].map(parsePrefix);

/** What a workload's interface, which is named after the network, cannot be called. */
const RESERVED_NAMES = new Set(['lo', 'eth0', 'all', 'default']);

/** The lengths of pools and node prefixes: a node needs a gateway and at least one pod. */
const LONGEST: Readonly<Record<Family, number>> = { 4: 30, 6: 126 };
const SHORTEST_POOL: Readonly<Record<Family, number>> = { 4: 8, 6: 16 };
const USUAL_NODE_LENGTH: Readonly<Record<Family, number>> = { 4: 24, 6: 112 };

const parseField = (field: string, text: string): Prefix => {
  try {
    return parsePrefix(text);
  } catch (cause) {
    if (!(cause instanceof Vl3Error)) throw cause;
    throw new Vl3Error(cause.code, `${field}: ${cause.message}`, { cause });
  }
};

const parsePool = (text: string, family: Family): Prefix | undefined => {
  if (text === '') return undefined;
  const pool = parseField(`pool_v${family}`, text);
  if (pool.family !== family) {
    throw new Vl3Error(
      'invalid-argument',
      `pool_v${family}: "${text}" is an IPv${pool.family} prefix: give an IPv${family} one`,
    );
  }
  if (pool.length < SHORTEST_POOL[family] || pool.length > LONGEST[family]) {
    throw new Vl3Error(
      'invalid-argument',
      `pool_v${family}: use a length from /${SHORTEST_POOL[family]} to /${LONGEST[family]}, not /${pool.length}`,
    );
  }
  if (UNUSABLE.some((range) => prefixesOverlap(range, pool))) {
    throw new Vl3Error(
      'invalid-argument',
      `pool_v${family}: ${text} overlaps a range that cannot be routed (loopback, link-local, multicast, reserved)`,
    );
  }
  return pool;
};

/** 0: the usual length, or a sixteenth of a small pool. */
const nodeLength = (pool: Prefix, asked: number): number => {
  const { family } = pool;
  if (asked === 0) return Math.min(LONGEST[family], Math.max(USUAL_NODE_LENGTH[family], pool.length + 4));
  if (asked < pool.length || asked > LONGEST[family]) {
    throw new Vl3Error(
      'invalid-argument',
      `node_prefix_length_v${family}: use ${pool.length} to ${LONGEST[family]} with a pool of /${pool.length}`,
    );
  }
  return asked;
};

const checkExcluded = (excluded: readonly string[], pools: readonly Prefix[]): void => {
  for (const text of excluded) {
    const prefix = parseField('excluded_prefixes', text);
    if (!pools.some((pool) => prefixesOverlap(pool, prefix))) {
      throw new Vl3Error('invalid-argument', `excluded_prefixes: ${text} is in no pool of the network`);
    }
    const covered = pools.find((pool) => prefixCovers(prefix, pool));
    if (covered !== undefined) {
      throw new Vl3Error(
        'invalid-argument',
        `excluded_prefixes: ${text} leaves nothing of the IPv${covered.family} pool`,
      );
    }
  }
};

const checkMtu = (mtu: number): void => {
  if (!Number.isInteger(mtu) || (mtu !== 0 && (mtu < 1280 || mtu > 65_455))) {
    throw new Vl3Error(
      'invalid-argument',
      `mtu: use 1280 to 65455, or 0 to derive it from the underlay, not ${mtu}`,
    );
  }
};

const unique = (texts: readonly string[]): string[] => [...new Set(texts)];

const poolsOf = (network: Network): Prefix[] =>
  [network.poolV4, network.poolV6].filter((pool) => pool !== undefined).map(parsePrefix);

/** What will be in the way: `reserved` is what the operator named, e.g. a cluster's pod and service ranges. */
const warningsFor = (network: Network, state: State, reserved: readonly Prefix[]): string[] => {
  const others: readonly Stored<Network>[] = state.networks();
  const nodes = nodeAddresses(state);
  const warnings: string[] = [];
  for (const pool of poolsOf(network)) {
    const text = pool.family === 4 ? network.poolV4 : network.poolV6;
    for (const range of reserved.filter((one) => prefixesOverlap(pool, one))) {
      warnings.push(
        `${text} overlaps ${formatPrefix(range)}, which is reserved (--reserved-range): attaching is refused where that range is reserved too`,
      );
    }
    const inside = [
      ...new Set(nodes.filter(({ address }) => prefixContains(pool, address)).map(({ node }) => node)),
    ];
    if (inside.length > 0) {
      const shown =
        inside.slice(0, 3).join(', ') + (inside.length > 3 ? ` and ${inside.length - 3} more` : '');
      warnings.push(
        `${text} holds addresses of ${shown}: attaching is refused there, and elsewhere they are out of sight`,
      );
    }
    for (const { value: other } of others) {
      if (other.name !== network.name && poolsOf(other).some((their) => prefixesOverlap(pool, their))) {
        warnings.push(
          `${text} overlaps a pool of network "${other.name}": no workload can be on both networks at once`,
        );
      }
    }
    if (!PRIVATE.some((range) => prefixCovers(range, pool))) {
      warnings.push(`${text} is not private address space: members lose sight of the public hosts in it`);
    }
  }
  return warnings;
};

export interface CreatedNetwork {
  readonly network: Network;
  readonly warnings: readonly string[];
}

/** Repeated with the same definition it answers the same; the name taken otherwise is 'already-exists'. */
export const createNetwork = (
  request: NetworkRequest,
  fresh: { readonly now: number; readonly uid: string },
  reserved: readonly Prefix[] = [],
): Rule<CreatedNetwork> => {
  check(nameSchema, request.name, 'name');
  if (RESERVED_NAMES.has(request.name)) {
    throw new Vl3Error(
      'invalid-argument',
      `name: "${request.name}" cannot name a network, since interfaces are named after it: choose another`,
    );
  }
  if (request.name === OTHERS)
    throw new Vl3Error(
      'invalid-argument',
      `name: "${OTHERS}" cannot name a network, since the names of partners' networks are below ${OTHERS}.${DOMAIN}: choose another`,
    );
  const v4 = parsePool(request.poolV4, 4);
  const v6 = parsePool(request.poolV6, 6);
  const pools = [v4, v6].filter((pool) => pool !== undefined);
  if (pools.length === 0) {
    throw new Vl3Error('invalid-argument', 'a network needs a pool: give pool_v4, pool_v6 or both');
  }
  for (const [family, pool, length] of [
    [4, v4, request.nodePrefixLengthV4],
    [6, v6, request.nodePrefixLengthV6],
  ] as const) {
    if (pool === undefined && length !== 0) {
      throw new Vl3Error(
        'invalid-argument',
        `node_prefix_length_v${family}: the network has no IPv${family} pool`,
      );
    }
  }
  checkExcluded(request.excluded, pools);
  checkMtu(request.mtu);
  const network: Network = check(
    networkSchema,
    {
      name: request.name,
      uid: fresh.uid,
      ...(v4 && { poolV4: request.poolV4, nodePrefixLengthV4: nodeLength(v4, request.nodePrefixLengthV4) }),
      ...(v6 && { poolV6: request.poolV6, nodePrefixLengthV6: nodeLength(v6, request.nodePrefixLengthV6) }),
      excluded: unique(request.excluded),
      mtu: request.mtu,
      createdAt: fresh.now,
    },
    'network',
  );
  const key = keys.network(network.name);
  return {
    reads: [all(below.networks), ...SURROUNDINGS_READS],
    decide: (state) => {
      const warnings = warningsFor(network, state, reserved);
      const existing = state.network(network.name);
      if (existing !== undefined) {
        const same = { ...network, uid: existing.value.uid, createdAt: existing.value.createdAt };
        if (JSON.stringify(same) !== JSON.stringify(existing.value)) {
          throw new Vl3Error(
            'already-exists',
            `network "${network.name}" exists with another definition: see \`vl3 network show ${network.name}\``,
          );
        }
        return settled({ network: existing.value, warnings });
      }
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, networkSchema, network)],
        answer: { network, warnings },
      };
    },
  };
};

/** `revision` is the one that was read. Leases made before keep their lengths, also where they are excluded now. */
export const updateNetwork = (
  request: NetworkRequest & { readonly uid: string; readonly revision: number },
): Rule<Network> => {
  check(nameSchema, request.name, 'name');
  checkMtu(request.mtu);
  const key = keys.network(request.name);
  return {
    reads: [one(key)],
    decide: (state) => {
      const { value: current, revision } = mustBeNetwork(state, request.name);
      if (request.revision !== revision || (request.uid !== '' && request.uid !== current.uid)) {
        throw new Vl3Error(
          'aborted',
          `network "${request.name}" changed meanwhile (it is at revision ${revision}, the update names ${request.revision}): read it and update again`,
        );
      }
      for (const [field, was, asked] of [
        ['pool_v4', current.poolV4, request.poolV4],
        ['pool_v6', current.poolV6, request.poolV6],
      ] as const) {
        if (asked !== '' && asked !== was) {
          throw new Vl3Error(
            'invalid-argument',
            `${field}: a network's pools never change (it is ${was ?? 'none'}): create another network`,
          );
        }
      }
      const pools = poolsOf(current);
      checkExcluded(request.excluded, pools);
      const changed: Network = { ...current, excluded: unique(request.excluded), mtu: request.mtu };
      for (const pool of pools) {
        if (pool.family === 4 && request.nodePrefixLengthV4 !== 0)
          changed.nodePrefixLengthV4 = nodeLength(pool, request.nodePrefixLengthV4);
        if (pool.family === 6 && request.nodePrefixLengthV6 !== 0)
          changed.nodePrefixLengthV6 = nodeLength(pool, request.nodePrefixLengthV6);
      }
      if (JSON.stringify(changed) === JSON.stringify(current)) return settled(current);
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, networkSchema, changed)],
        answer: changed,
      };
    },
  };
};

export const deleteNetwork = (name: string): Rule<void> => {
  check(nameSchema, name, 'name');
  const key = keys.network(name);
  return {
    reads: [one(key), all(below.members(name))],
    decide: (state) => {
      mustBeNetwork(state, name);
      const nodes = state.members(name).map(({ value }) => value.node);
      if (nodes.length > 0) {
        const shown =
          nodes.slice(0, 3).join(', ') + (nodes.length > 3 ? ` and ${nodes.length - 3} more` : '');
        throw new Vl3Error(
          'failed-precondition',
          `network "${name}" is in use by ${shown}: detach what is on it there, or delete the node`,
        );
      }
      return {
        compares: [state.unchanged(key), state.noneNewer(below.members(name))],
        operations: [
          { kind: 'delete', key },
          { kind: 'delete-prefix', prefix: below.leases(name) },
          { kind: 'delete-prefix', prefix: below.records(name) },
          { kind: 'delete-prefix', prefix: below.names(name) },
          { kind: 'delete-prefix', prefix: below.attachments(name) },
          { kind: 'delete-prefix', prefix: below.tombstones(name) },
          { kind: 'delete', key: keys.ruleset(name) },
          { kind: 'delete-prefix', prefix: below.admissionRules(name) },
          { kind: 'delete-prefix', prefix: below.decisions(name) },
          { kind: 'delete-prefix', prefix: below.grants(name) },
        ],
        answer: undefined,
      };
    },
  };
};

/** The pool and node prefix length of a family, when the network has one. */
export const familyOf = (network: Network, family: Family): { pool: Prefix; length: number } | undefined => {
  const pool = family === 4 ? network.poolV4 : network.poolV6;
  const length = family === 4 ? network.nodePrefixLengthV4 : network.nodePrefixLengthV6;
  if (pool === undefined || length === undefined || length > familyBits(family)) return undefined;
  return { pool: parsePrefix(pool), length };
};
