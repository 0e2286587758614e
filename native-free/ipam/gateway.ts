// A node's gateway address in a prefix it leases: where its pods send to, and what a peer probes inside the tunnel. The
// network address before it is skipped, as IPv4 hosts expect and IPv6 (RFC 4291, section 2.6.1) asks.

import type { Address, Prefix } from './prefix.ts';

/** Its offset in the prefix. */
export const GATEWAY_OFFSET = 1n;

export const gatewayOf = ({ family, value }: Prefix): Address => ({ family, value: value + GATEWAY_OFFSET });
