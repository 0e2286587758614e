// From verified records to peers: who is to be configured, and what has to change for that. Of two claims to overlapping
// prefixes, or to one key, the older one holds (by when it was leased, then by node name, so that every node decides alike);
// but what is configured stays with its peer, since a claim that turns up later can only say that it is older. Before both
// goes that a node is of the network's home and the other is not, and that a registry that has decided who is on the network
// knows one and not the other. The other is reported. Not here: when a record ends (its book knows) and how a peer is
// configured (the device).

import type { Granted } from '../admission/grant-book.ts';
import { formatPrefix, type Prefix, parsePrefix, prefixAround, prefixCovers } from '../ipam/prefix.ts';
import { foreignDomainOf } from '../registry/foreign-key.ts';
import type { NodeRecord, RecordEndpoint } from '../registry/record.ts';

/** A peer as it ought to be configured. */
export interface DesiredPeer {
  readonly node: string;
  /** Base64, as in the record. */
  readonly publicKey: string;
  readonly prefixes: readonly Prefix[];
  readonly endpoints: readonly RecordEndpoint[];
}

/** A claim that was not honoured. */
export interface Conflict {
  /** Whose claim is refused. */
  readonly node: string;
  /** A prefix, or a public key. */
  readonly claim: string;
  /** Who holds it. */
  readonly heldBy: string;
}

export type PeerAction =
  | { readonly kind: 'remove'; readonly peer: DesiredPeer }
  | { readonly kind: 'add'; readonly peer: DesiredPeer }
  /** Same node and key; prefixes or endpoints changed. */
  | { readonly kind: 'update'; readonly peer: DesiredPeer };

export interface Self {
  readonly node: string;
  readonly publicKey: string;
  readonly claims: readonly { readonly prefix: string; readonly leasedAt: number }[];
  /** The stock WireGuard peers that this node takes in: who announces a key of theirs would take their place. */
  readonly stockPeers?: readonly { readonly name: string; readonly publicKey: string }[];
}

interface Ranked {
  /** As the network's home calls it. */
  readonly node: string;
  readonly mayHold: boolean;
  readonly leasedAt: number;
  readonly isConfigured: boolean;
}

interface Claim extends Ranked {
  readonly prefix: Prefix;
}

/**
 * Nodes of other domains come last, whatever date they claim, and whom the registry has decided without; whoever is
 * configured comes first, and then it goes by age.
 */
const byRight = (a: Ranked, b: Ranked): number =>
  Number(isForeign(a)) - Number(isForeign(b)) ||
  Number(b.mayHold) - Number(a.mayHold) ||
  Number(b.isConfigured) - Number(a.isConfigured) ||
  byAge(a, b);

const isForeign = ({ node }: Ranked): boolean => foreignDomainOf(node) !== undefined;

const byAge = (a: { leasedAt: number; node: string }, b: { leasedAt: number; node: string }): number =>
  a.leasedAt - b.leasedAt || (a.node < b.node ? -1 : a.node > b.node ? 1 : 0);

/**
 * Peers by base64 public key, this node itself left out, and the claims that were refused. `configured`: those at present.
 * `mayHold`: false of a node that the registry has decided without; nothing but a claim of another is lost by it.
 * `granted`: what of its prefixes a node is let have; who is granted nothing is no peer. `leased`: which prefixes it may
 * claim at all; a claim beyond them is none, so that it takes nothing from who holds it.
 */
export const desiredPeers = (
  records: readonly NodeRecord[],
  self: Self,
  configured: ReadonlyMap<string, DesiredPeer> = new Map(),
  mayHold: (node: string) => boolean = () => true,
  granted: (node: string) => Granted = () => 'whole',
  leased: (node: string) => Granted = () => 'whole',
): { peers: Map<string, DesiredPeer>; conflicts: Conflict[] } => {
  const conflicts: Conflict[] = [];
  const others = newestOfEachNode(records).filter((record) => record.node !== self.node);
  const keys = new Map<string, string>([
    [self.publicKey, self.node],
    ...(self.stockPeers ?? []).map(({ name, publicKey }) => [publicKey, name] as const),
  ]);
  const holders: NodeRecord[] = [];
  const rank = (record: NodeRecord): Ranked => ({
    node: record.node,
    mayHold: mayHold(record.node),
    isConfigured: configured.get(record.publicKey)?.node === record.node,
    leasedAt: Math.min(...record.prefixes.map((one) => one.leasedAt), Number.MAX_SAFE_INTEGER),
  });
  for (const record of [...others].sort((a, b) => byRight(rank(a), rank(b)))) {
    const heldBy = keys.get(record.publicKey);
    if (heldBy === undefined) {
      keys.set(record.publicKey, record.node);
      holders.push(record);
    } else {
      conflicts.push({ node: record.node, claim: record.publicKey, heldBy });
    }
  }
  const prefixesOf = new Map(
    [...configured.values()].map(({ node, prefixes }) => [node, new Set(prefixes.map(formatPrefix))]),
  );
  const claims: Claim[] = [
    ...self.claims.map((one) => ({
      node: self.node,
      leasedAt: one.leasedAt,
      mayHold: true,
      isConfigured: false,
      prefix: parsePrefix(one.prefix),
    })),
    ...holders.flatMap(({ node, prefixes }) => {
      const lease = leased(node);
      const claimed = prefixes.map((one) => ({
        node,
        leasedAt: one.leasedAt,
        mayHold: mayHold(node),
        isConfigured: prefixesOf.get(node)?.has(one.prefix) ?? false,
        prefix: parsePrefix(one.prefix),
      }));
      return lease === 'whole'
        ? claimed
        : claimed.filter((one) => lease.some((prefix) => prefixCovers(prefix, one.prefix)));
    }),
  ];
  const held = holdOldest(claims, conflicts);
  const peers = new Map<string, DesiredPeer>();
  for (const { node, publicKey, endpoints } of holders) {
    const grant = granted(node);
    const prefixes = within(held.get(node) ?? [], grant);
    if (grant === 'whole' || prefixes.length > 0)
      peers.set(publicKey, { node, publicKey, endpoints, prefixes });
  }
  return { peers, conflicts };
};

const within = (held: readonly Prefix[], granted: Granted): readonly Prefix[] =>
  granted === 'whole' ? held : granted.filter((one) => held.some((prefix) => prefixCovers(prefix, one)));

/** Of two records of one node the one with the higher sequence holds, whatever the order they came in. */
const newestOfEachNode = (records: readonly NodeRecord[]): NodeRecord[] => {
  const newest = new Map<string, NodeRecord>();
  for (const record of records) {
    const known = newest.get(record.node);
    if (known === undefined || known.sequence < record.sequence) newest.set(record.node, record);
  }
  return [...newest.values()];
};

/** The prefixes each node holds once of overlapping claims only the oldest is honoured. */
const holdOldest = (claims: readonly Claim[], conflicts: Conflict[]): Map<string, Prefix[]> => {
  const lengths = [...new Set(claims.map(({ prefix }) => prefix.length))];
  const exact = new Map<string, string>();
  // Every shortening of a held prefix to a length in use, and who holds something inside it.
  const around = new Map<string, string>();
  const held = new Map<string, Prefix[]>();
  const own = ({ family, length, value }: Prefix): string => `${family} ${length} ${value}`;
  const shortened = (prefix: Prefix): string[] =>
    lengths.filter((length) => length <= prefix.length).map((length) => own(prefixAround(prefix, length)));
  for (const { node, prefix } of [...claims].sort(byRight)) {
    const holder = shortened(prefix)
      .map((key) => exact.get(key))
      .find((one) => one !== undefined);
    const heldBy = holder ?? around.get(own(prefix));
    if (heldBy !== undefined) {
      if (heldBy !== node) conflicts.push({ node, claim: formatPrefix(prefix), heldBy });
      continue;
    }
    exact.set(own(prefix), node);
    for (const key of shortened(prefix)) around.set(key, node);
    const prefixes = held.get(node);
    if (prefixes === undefined) held.set(node, [prefix]);
    else prefixes.push(prefix);
  }
  return held;
};

const same = (a: DesiredPeer, b: DesiredPeer): boolean =>
  a.node === b.node &&
  a.prefixes.map(formatPrefix).join() === b.prefixes.map(formatPrefix).join() &&
  JSON.stringify(a.endpoints) === JSON.stringify(b.endpoints);

/** What leads from the configured peers to the desired ones; removals first, so that a prefix is free for its taker. */
export const reconcilePeers = (
  current: ReadonlyMap<string, DesiredPeer>,
  desired: ReadonlyMap<string, DesiredPeer>,
): PeerAction[] => {
  const actions: PeerAction[] = [];
  for (const [key, peer] of current) if (!desired.has(key)) actions.push({ kind: 'remove', peer });
  for (const [key, peer] of desired) {
    const configured = current.get(key);
    if (configured === undefined) actions.push({ kind: 'add', peer });
    else if (!same(configured, peer)) actions.push({ kind: 'update', peer });
  }
  return actions;
};
