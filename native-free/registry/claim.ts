// What may become of a prefix that a node says it holds: a decision on the leases of one network, without a store. A free
// prefix inside the pools is the node's, a prefix that another holds is not; and nobody gets more than he could lease.

import {
  familyBits,
  type Prefix,
  parsePrefix,
  prefixCovers,
  prefixesOverlap,
  prefixSize,
} from '../ipam/prefix.ts';
import { foreignDomainOf } from './foreign-key.ts';
import { isConfirmed, isHeld } from './lease-phase.ts';
import { type Lease, MAX_LEASES, type Network } from './model.ts';
import { familyOf } from './network-rules.ts';
import type { Stored } from './state.ts';

export interface Claim {
  readonly prefix: string;
  /** As the node remembers it; its record says the same. */
  readonly leasedAt: number;
  readonly requestId?: string | undefined;
  /** It may have ended by the node's own clock: the node holds it no more, and asks for it back. */
  readonly isExpired?: boolean;
}

export type ClaimDecision =
  /** `replaced`: the keys of resting leases that it takes the place of. */
  | { readonly kind: 'granted'; readonly replaced: readonly string[] }
  | { readonly kind: 'pending' | 'lost'; readonly reason: string };

/** Resting leases that one claim may replace: the rest of a transaction is the claims themselves. */
const MAX_REPLACED = 8;

const familyOfPrefix = (text: string): 4 | 6 => (text.includes(':') ? 6 : 4);

/** Takes the claims of one node on one network one after another. */
export class Claims {
  readonly #node: string;
  readonly #network: Network;
  readonly #others: readonly (Stored<Lease> & { readonly parsed: Prefix })[];
  readonly #since: number | undefined;
  readonly #mine: Prefix[];
  #replaced = 0;

  /** `mine`: what the node has of the network already. `since`: when the recovery began, undefined outside of one. */
  constructor(
    node: string,
    network: Network,
    existing: readonly Stored<Lease>[],
    mine: readonly string[],
    since: number | undefined,
  ) {
    const kept = new Set(mine);
    this.#node = node;
    this.#network = network;
    this.#since = since;
    this.#mine = mine.map(parsePrefix);
    this.#others = existing
      .filter(({ value }) => !(value.node === node && kept.has(value.prefix)))
      .map((lease) => ({ ...lease, parsed: parsePrefix(lease.value.prefix) }));
  }

  decide({ prefix: text }: Claim): ClaimDecision {
    const prefix = parsePrefix(text);
    const { name } = this.#network;
    const of = familyOf(this.#network, familyOfPrefix(text));
    if (of === undefined || !prefixCovers(of.pool, prefix)) {
      return lost(`${text} lies in no pool of network "${name}"`);
    }
    if (this.#mine.some((other) => prefixesOverlap(other, prefix))) {
      return lost(`${text} overlaps another prefix of the node`);
    }
    const ofFamily = this.#mine.filter(({ family }) => family === prefix.family);
    const size = [...ofFamily, prefix].reduce((sum, one) => sum + prefixSize(one), 0n);
    const share = 1n << BigInt(familyBits(prefix.family) - of.length);
    // Leases keep their length when the network's node prefix length changes; so it is the space that is bounded.
    if (ofFamily.length >= MAX_LEASES || size > share * BigInt(MAX_LEASES)) {
      return lost(`${text} is more of network "${name}" than one node may hold`);
    }
    const overlapped = this.#others.filter(({ parsed }) => prefixesOverlap(parsed, prefix));
    for (const { value } of overlapped) {
      if (!isHeld(value)) continue;
      const domain = foreignDomainOf(this.#node);
      // Else a partner's node would learn who is on the network by asking for one prefix after another.
      const mayKnow = domain === undefined || domain === foreignDomainOf(value.node);
      const why = mayKnow
        ? `${text} overlaps ${value.prefix}, which is leased to node "${value.node}"`
        : `${text} is leased to another node`;
      if (value.node === this.#node || this.#since === undefined) return lost(why);
      if (isConfirmed(value, this.#since)) {
        if ((value.claimedAt ?? -1) < this.#since) return lost(why);
        // One word against another: who came first proves nothing, and nobody takes down what he uses for it.
        const remedy = 'delete the node that should not have it; settled, it stays where it is';
        return { kind: 'pending', reason: `${why} by that node's word alone: ${remedy}` };
      }
      return { kind: 'pending', reason: `${why}; that node has not said yet whether it holds it` };
    }
    const replaced = overlapped.filter(({ value }) => value.prefix !== text).map(({ key }) => key);
    if (this.#replaced + replaced.length > MAX_REPLACED) {
      return { kind: 'pending', reason: `${text} overlaps too many prefixes that were given back just now` };
    }
    this.#replaced += replaced.length;
    this.#mine.push(prefix);
    return { kind: 'granted', replaced };
  }
}

const lost = (reason: string): ClaimDecision => ({ kind: 'lost', reason });
