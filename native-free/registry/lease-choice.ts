// Which prefix of a pool a node is leased next: one that is free of what is held, excluded or kept for partners, and rested if
// there is one. Whoever leases it compares that nothing of this changed meanwhile.

import { Vl3Error } from '../error.ts';
import type { FederationConstraints } from '../federation/constraints.ts';
import {
  type Family,
  formatPrefix,
  type Prefix,
  parsePrefix,
  prefixCovers,
  prefixesOverlap,
} from '../ipam/prefix.ts';
import { foreignDomainOf } from './foreign-key.ts';
import { heldPrefixes, leasableOf, mustLeaveRoom } from './foreign-rules.ts';
import { isHeld } from './lease-phase.ts';
import type { Lease, Network } from './model.ts';
import { familyOf } from './network-rules.ts';
import type { State, Stored } from './state.ts';

/** Undefined: the pool has no free prefix of this length. */
export type ChoosePrefix = (request: {
  readonly pool: Prefix;
  readonly length: number;
  readonly excluded: readonly Prefix[];
  /** All leases of the network's family. */
  readonly leased: readonly Prefix[];
  /** Given back lately: leased again only when nothing else is free. */
  readonly resting: readonly Prefix[];
}) => Prefix | undefined;

export const FAMILIES: readonly Family[] = [4, 6];
const isV4 = (prefix: string): boolean => !prefix.includes(':');
export const familyOfText = (prefix: string): Family => (isV4(prefix) ? 4 : 6);

const parsedPrefixes = new WeakMap<Lease, Prefix>();

/** Parsed once: every decision looks at all leases of its network, and values are never changed in place. */
const prefixOf = (lease: Lease): Prefix => {
  let prefix = parsedPrefixes.get(lease);
  if (prefix === undefined) {
    prefix = parsePrefix(lease.prefix);
    parsedPrefixes.set(lease, prefix);
  }
  return prefix;
};

/** A new lease of a free prefix, and the resting ones that it takes the place of. */
export interface Choice {
  readonly prefix: string;
  readonly replaced: readonly string[];
}

/** Given back and resting, of a node or of all of another domain's, on one network: else a loop of both would fill the store. */
const MAX_RESTING = 256;
const MAX_RESTING_OF_DOMAIN = 1024;

const mustHaveRested = (node: string, resting: readonly Stored<Lease>[]): void => {
  const domain = foreignDomainOf(node);
  const own = resting.filter(({ value }) => value.node === node).length;
  const ofDomain =
    domain === undefined ? 0 : resting.filter(({ value }) => foreignDomainOf(value.node) === domain).length;
  if (own < MAX_RESTING && ofDomain < MAX_RESTING_OF_DOMAIN) return;
  throw new Vl3Error(
    'resource-exhausted',
    `node "${node}"${own < MAX_RESTING ? ' and others of its domain' : ''} gave back ${Math.max(own, ofDomain)} prefixes within the hour, which still rest: try again later`,
  );
};

/** More would not fit into one transaction with the rest. */
const MAX_REPLACED = 32;

/** Reads the leases of the network, and all federations: what is kept for partners goes to others last. */
export const choose = (
  state: State,
  network: Network,
  family: Family,
  {
    node,
    existing,
    constraints,
  }: {
    readonly node: string;
    readonly existing: readonly Stored<Lease>[];
    /** Of the node's domain; undefined: the home domain. */
    readonly constraints: FederationConstraints | undefined;
  },
  choosePrefix: ChoosePrefix,
): Choice => {
  const of = familyOf(network, family);
  if (of === undefined) {
    throw new Vl3Error('failed-precondition', `network "${network.name}" has no IPv${family} pool`);
  }
  const ofFamily = existing.filter(({ value }) => familyOfText(value.prefix) === family);
  const parsed = (leases: readonly Stored<Lease>[]): Prefix[] => leases.map(({ value }) => prefixOf(value));
  const leased = parsed(ofFamily.filter(({ value }) => isHeld(value)));
  const free = ofFamily.filter(({ value }) => !isHeld(value));
  mustHaveRested(node, free);
  const excluded = network.excluded.map(parsePrefix).filter((prefix) => prefix.family === family);
  const kept = state
    .federations()
    .map(({ value }) => value.admits)
    .filter((one) => one?.networks.includes(network.name) && one.trustDomain !== constraints?.trustDomain)
    .flatMap((one) => one?.prefixes ?? [])
    .map(parsePrefix)
    .filter((one) => one.family === family);
  if (constraints !== undefined)
    mustLeaveRoom(constraints, node, of, heldPrefixes(existing, constraints.trustDomain));
  const own = constraints && leasableOf(constraints, of);
  if (own?.length === 0) {
    throw new Vl3Error(
      'failed-precondition',
      `the federation with ${constraints?.trustDomain} has no prefix in the pool ${formatPrefix(of.pool)} of network "${network.name}" (${constraints?.prefixes.join(', ')}): an admin of the network invites it anew with one`,
    );
  }
  const prefix = first(own ?? [of], (from) =>
    choosePrefix({ ...from, excluded, leased, resting: [...parsed(free), ...kept] }),
  );
  if (prefix === undefined) {
    throw new Vl3Error(
      'resource-exhausted',
      `the pool ${formatPrefix(of.pool)} of network "${network.name}" has no free /${of.length}: delete nodes that are gone, shorten excluded_prefixes, or lease smaller shares (node_prefix_length_v${family})`,
    );
  }
  if (!prefixCovers(of.pool, prefix) || leased.some((other) => prefixesOverlap(prefix, other))) {
    throw new Vl3Error('internal', `${formatPrefix(prefix)} was chosen though it is not free`);
  }
  const text = formatPrefix(prefix);
  const replaced = free
    .filter(({ value }) => value.prefix !== text && prefixesOverlap(prefixOf(value), prefix))
    .map(({ key }) => key);
  if (replaced.length > MAX_REPLACED) {
    throw new Vl3Error(
      'resource-exhausted',
      `the free rest of the pool ${formatPrefix(of.pool)} of network "${network.name}" was given back just now, in other lengths: try again in an hour`,
    );
  }
  return { prefix: text, replaced };
};

const first = <T, R>(all: readonly T[], find: (one: T) => R | undefined): R | undefined => {
  for (const one of all) {
    const found = find(one);
    if (found !== undefined) return found;
  }
  return undefined;
};
