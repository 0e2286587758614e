// Leases and networks between the registry's messages and this node's documents.

import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { Vl3Error } from '../../native-free/error.ts';
import { DEFAULT_TERM_MS, type Term } from '../../native-free/ipam/lease-clock.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import type { Moment } from '../../native-free/moment.ts';
import type { LeaseDocument } from '../../native-free/reconcile/documents.ts';
import type { Holding } from '../../native-free/registry/renewal-rules.ts';
import type { PrefixLease } from '../api/generated/vl3/v1/common_pb.js';
import { networkMessage } from '../registry/messages.ts';

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

/** What a node says it holds, as the registry is told. */
export const holdingMessage = ({ network, leases, isRestricted = false }: Holding) => ({
  network: { ...networkMessage(network, 0), isRestricted },
  leases: leases.map(({ prefix, leasedAt, isExpired = false }) => ({
    network: network.name,
    prefix,
    leasedAt: timestampFromMs(leasedAt),
    expired: isExpired,
  })),
});
