// What a node of another domain may do here, beside what every node has to ask: the federation vouches for it as long as it lasts,
// its constraints are asked at every step, and no partner can take all of a pool or fill the store, however many nodes it makes.

import { nodeMayBeAdmitted } from '../admission/decision.ts';
import { Vl3Error } from '../error.ts';
import { type FederationConstraints, networkProblem, prefixProblem } from '../federation/constraints.ts';
import { formatPrefix, type Prefix, parsePrefix, prefixCovers, prefixSize } from '../ipam/prefix.ts';
import type { Federation } from './federation-model.ts';
import { foreignDomainOf, nodeNameOf } from './foreign-key.ts';
import { all, below, keys, one } from './keys.ts';
import { isHeld } from './lease-phase.ts';
import type { Lease } from './model.ts';
import type { State, Stored } from './state.ts';
import type { Range } from './transaction.ts';

/** Of one domain on one network, with those that left lately. */
export const MAX_FOREIGN_NODES = 1024;
/** Of each family, a node. */
export const MAX_FOREIGN_LEASES = 4;
/** Of one node on one network. */
export const MAX_FOREIGN_ATTACHMENTS = 256;
/** Of one attachment: each is an allowed IP at every node. */
export const MAX_FOREIGN_ADDRESSES = 2;
/** Of what a node signs about its names on one network, bytes: every node keeps it. */
export const MAX_FOREIGN_NAMES_BYTES = 32_768;
/** Of a pool, to one domain that was given no prefixes of its own: a quarter. */
const SHARE_OF_POOL = 4n;

/** Throws Vl3Error('permission-denied') unless there is a federation with the domain. */
export const mustBeFederated = (state: State, domain: string): Federation => {
  const federation = state.federation(domain)?.value;
  if (federation?.activeSince !== undefined) return federation;
  throw new Vl3Error(
    'permission-denied',
    `there is no federation with ${domain} here, or none any more: an admin of this domain has to invite it (\`vl3 federation invite ${domain}\`)`,
  );
};

/** What the node's domain may bring; undefined: it is of the home domain. */
export const constraintsOf = (state: State, node: string): FederationConstraints | undefined => {
  const domain = foreignDomainOf(node);
  if (domain === undefined) return undefined;
  const { admits } = mustBeFederated(state, domain);
  if (admits !== undefined) return admits;
  throw new Vl3Error(
    'permission-denied',
    `this domain accepted an invitation of ${domain} and has not invited it: nodes of ${domain} have nothing to ask here`,
  );
};

/** Throws Vl3Error('permission-denied') when the node's domain may not come to the network. Reads the federation. */
export const mustBeOfFederation = (state: State, network: string, node: string): void => {
  const constraints = constraintsOf(state, node);
  const problem = constraints && networkProblem(constraints, network);
  if (problem !== undefined) throw new Vl3Error('permission-denied', problem);
};

/** Throws Vl3Error('permission-denied') for a prefix that the node's domain may not have. */
export const mustBeForDomain = (state: State, node: string, prefixes: readonly string[]): void => {
  const constraints = constraintsOf(state, node);
  if (constraints === undefined) return;
  for (const prefix of prefixes) {
    const problem = prefixProblem(constraints, parsePrefix(prefix));
    if (problem !== undefined) throw new Vl3Error('permission-denied', problem);
  }
};

/** What joining reads beside what a node of the home domain's does. */
export const joiningReads = (network: string, node: string): Range[] =>
  foreignDomainOf(node) === undefined
    ? []
    : [
        one(keys.ruleset(network)),
        all(below.admissionRules(network)),
        all(below.members(network)),
        all(below.tombstones(network)),
      ];

/** Whether some rule could admit what the node has. Reads the network's rules. */
export const mayBeAdmitted = (state: State, network: string, node: string): boolean => {
  const { node: name, trustDomain = '' } = nodeNameOf(node);
  const rules = state.admissionRules(network).map(({ value }) => value);
  return nodeMayBeAdmitted(rules, { trustDomain, cluster: '', node: name });
};

/** Throws Vl3Error for a node of another domain that no rule could admit, or that is one too many. */
export const mustBeWelcome = (state: State, network: string, node: string): void => {
  const { node: name, trustDomain } = nodeNameOf(node);
  if (trustDomain === undefined) return;
  if (!mayBeAdmitted(state, network, node))
    throw new Vl3Error(
      'permission-denied',
      `${trustDomain} is federated, but no admission rule of network "${network}" could admit anything of its node "${name}": an admin there has to make one (\`vl3 admission create --network ${network} --from ${trustDomain}\`)`,
    );
  const isOfDomain = ({ value }: { readonly value: { readonly node: string } }): boolean =>
    foreignDomainOf(value.node) === trustDomain && value.node !== node;
  const present = new Set(
    [...state.members(network), ...state.tombstones(network)]
      .filter(isOfDomain)
      .map(({ value }) => value.node),
  );
  if (present.size >= MAX_FOREIGN_NODES)
    throw new Vl3Error(
      'resource-exhausted',
      `${trustDomain} has ${MAX_FOREIGN_NODES} nodes on network "${network}", or had them lately, which is the most`,
    );
};

/** Where a node of another domain may lease from, and at which length; undefined: from the whole pool, as everybody. */
export const leasableOf = (
  { prefixes }: FederationConstraints,
  { pool, length }: { readonly pool: Prefix; readonly length: number },
): { readonly pool: Prefix; readonly length: number }[] | undefined => {
  if (prefixes.length === 0) return undefined;
  return prefixes
    .map(parsePrefix)
    .filter(({ family }) => family === pool.family)
    .flatMap((one) => (prefixCovers(pool, one) ? [one] : prefixCovers(one, pool) ? [pool] : []))
    .map((one) => ({ pool: one, length: Math.max(length, one.length) }));
};

/** A prefix that a node of another domain holds. */
export interface HeldPrefix {
  readonly node: string;
  readonly parsed: Prefix;
}

export const heldPrefixes = (leases: readonly Stored<Lease>[], trustDomain: string): HeldPrefix[] =>
  leases
    .filter(({ value }) => isHeld(value) && foreignDomainOf(value.node) === trustDomain)
    .map(({ value }) => ({ node: value.node, parsed: parsePrefix(value.prefix) }));

/** Throws Vl3Error('resource-exhausted') when a prefix more of this length would be more than a partner may have. */
export const mustLeaveRoom = (
  constraints: FederationConstraints,
  node: string,
  { pool, length }: { readonly pool: Prefix; readonly length: number },
  /** Of the node's domain. */
  present: readonly HeldPrefix[],
): void => {
  const { trustDomain, prefixes } = constraints;
  const held = present.filter(({ parsed }) => parsed.family === pool.family);
  if (held.filter((lease) => lease.node === node).length >= MAX_FOREIGN_LEASES)
    throw new Vl3Error(
      'resource-exhausted',
      `a node of another domain holds at most ${MAX_FOREIGN_LEASES} IPv${pool.family} prefixes of a network, and this one does`,
    );
  if (prefixes.length > 0) return;
  const one = prefixSize({ ...pool, length });
  const most = prefixSize(pool) / SHARE_OF_POOL;
  const size = held.reduce((sum, { parsed }) => sum + prefixSize(parsed), one);
  if (size > (most > one ? most : one))
    throw new Vl3Error(
      'resource-exhausted',
      `${trustDomain} holds as much of the pool ${formatPrefix(pool)} as a partner may, a quarter: an admin of the network invites it anew with a prefix of its own (\`vl3 federation invite --prefix\`), or leases smaller shares`,
    );
};
