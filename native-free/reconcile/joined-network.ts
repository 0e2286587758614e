// Whether what a registry says of a network can be taken over. What it leases lies in the network's pools: from anywhere else
// it would take addresses that belong to others in the pods. Of another domain's network the pools are private ranges:
// whoever puts a pod on a partner's network does not mean to hand the partner what the pod says to the internet.

import { Vl3Error } from '../error.ts';
import { formatPrefix, type Prefix, parsePrefix, prefixCovers } from '../ipam/prefix.ts';
import { check, type Network, network as networkSchema } from '../registry/model.ts';

/** RFC 1918, RFC 6598, RFC 4193. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map(
  parsePrefix,
);

/** Throws Vl3Error('failed-precondition') for a network that this node must not be on. `domain`: another's. */
export const mustBeUsable = (network: Network, domain: string | undefined): void => {
  check(networkSchema, network, 'network');
  if (domain === undefined) return;
  const stray = poolsOf(network).find((pool) => !PRIVATE.some((range) => prefixCovers(range, pool)));
  if (stray === undefined) return;
  throw new Vl3Error(
    'failed-precondition',
    `the pool ${formatPrefix(stray)} of network "${network.name}" of ${domain} is no private range: a partner's network that takes public addresses is not joined`,
  );
};

/** Throws Vl3Error('failed-precondition') for a lease outside the network's pools. */
export const mustBeInPools = (prefix: Prefix, pools: readonly Prefix[], network: string): void => {
  if (pools.some((pool) => prefixCovers(pool, prefix))) return;
  throw new Vl3Error(
    'failed-precondition',
    `the registry leases ${formatPrefix(prefix)}, which is in no pool of network "${network}": it is not taken`,
  );
};

export const poolsOf = ({ poolV4, poolV6 }: Pick<Network, 'poolV4' | 'poolV6'>): Prefix[] =>
  [poolV4, poolV6].filter((pool) => pool !== undefined).map(parsePrefix);
