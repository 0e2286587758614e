// What lies inside a network's excluded ranges though nothing new comes there: it was handed out before they were excluded,
// and stays until whoever has it lets go. Pure.

import { gatewayOf } from '../ipam/gateway.ts';
import {
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
} from '../ipam/prefix.ts';
import type { Attachment, Lease, Network } from './model.ts';

export interface ExcludedUse {
  /** The excluded range. */
  readonly range: string;
  readonly kind: 'prefix' | 'gateway' | 'attachment';
  readonly node: string;
  /** A prefix or an address. */
  readonly held: string;
  /** Of an attachment. */
  readonly attachmentId: string;
  readonly workload: string;
}

export const excludedUses = (
  network: Network,
  leases: readonly Lease[],
  attachments: readonly Attachment[],
): ExcludedUse[] =>
  network.excluded
    .map(parsePrefix)
    .flatMap((range) => [
      ...leases.flatMap((lease) => usesOfLease(range, lease)),
      ...attachments.flatMap(({ id, node, workload, addresses }) =>
        addresses
          .filter((text) => prefixContains(range, parseAddress(text)))
          .map((held) => use(range, 'attachment', node, held, id, workload)),
      ),
    ]);

const usesOfLease = (range: Prefix, { prefix: text, node }: Lease): ExcludedUse[] => {
  const prefix = parsePrefix(text);
  if (!prefixesOverlap(range, prefix)) return [];
  const gateway = gatewayOf(prefix);
  return [
    ...(prefixCovers(range, prefix) ? [use(range, 'prefix', node, text)] : []),
    ...(prefixContains(range, gateway) ? [use(range, 'gateway', node, formatAddress(gateway))] : []),
  ];
};

const use = (
  range: Prefix,
  kind: ExcludedUse['kind'],
  node: string,
  held: string,
  attachmentId = '',
  workload = '',
): ExcludedUse => ({ range: formatPrefix(range), kind, node, held, attachmentId, workload });
