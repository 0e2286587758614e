// Leases and networks between the registry's messages and this node's documents.

import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { Vl3Error } from '../../native-free/error.ts';
import { DEFAULT_TERM_MS, mayHaveEnded, type Term } from '../../native-free/ipam/lease-clock.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import type { Moment } from '../../native-free/moment.ts';
import type { LeaseDocument, NetworkDocument } from '../../native-free/reconcile/documents.ts';
import type { Network, PrefixLease } from '../api/generated/vl3/v1/common_pb.js';

/** What the registry granted for `leaseTermMs` (0: it does not say) when it was asked at `since`. */
export const termFrom = (leaseTermMs: bigint, since: Moment): Term => ({
  termMs: Number(leaseTermMs) || DEFAULT_TERM_MS,
  since,
});

/** A lease as it is written down. Throws Vl3Error for one that is not. */
export const leaseFrom = (lease: PrefixLease | undefined, term: Term): LeaseDocument & { term: Term } => {
  if (lease === undefined) throw new Vl3Error('internal', 'the registry answered without a lease');
  parsePrefix(lease.prefix);
  const leasedAt = lease.leasedAt === undefined ? 0 : timestampMs(lease.leasedAt);
  return { prefix: lease.prefix, leasedAt, term };
};

type Definition = Pick<
  NetworkDocument,
  'excludedPrefixes' | 'mtu' | 'nodePrefixLengthV4' | 'nodePrefixLengthV6' | 'createdAt'
>;

/** What is kept of a network's definition and may change; its pools and its uid never do. */
export const definitionFrom = (network: Network): Definition => ({
  excludedPrefixes: [...network.excludedPrefixes],
  mtu: network.mtu,
  nodePrefixLengthV4: network.nodePrefixLengthV4,
  nodePrefixLengthV6: network.nodePrefixLengthV6,
  createdAt: network.createdAt === undefined ? 0 : timestampMs(network.createdAt),
});

/**
 * What this node says it holds: the network as it last heard of it, and the leases that were not lost. One that may have
 * ended is named as expired: while no registry answered, it can have become another's.
 */
export const holding = (document: NetworkDocument, now: Moment) => {
  const { name, uid, poolV4, poolV6, excludedPrefixes, mtu, nodePrefixLengthV4, nodePrefixLengthV6 } =
    document;
  return {
    network: {
      name,
      uid,
      poolV4,
      poolV6,
      excludedPrefixes,
      mtu,
      nodePrefixLengthV4,
      nodePrefixLengthV6,
      createdAt: timestampFromMs(document.createdAt),
    },
    leases: document.leases
      .filter(({ lost }) => lost === undefined)
      .map(({ prefix, leasedAt, term }) => ({
        network: name,
        prefix,
        leasedAt: timestampFromMs(leasedAt),
        expired: term !== undefined && mayHaveEnded(term, now),
      })),
  };
};
