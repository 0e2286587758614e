// The gateways that a namespace has routes by, from /proc/PID/net/route and /proc/PID/net/ipv6_route (net/ipv4/fib_trie.c,
// net/ipv6/route.c): of a namespace that has nothing but vl3's interfaces, its networks' gateway addresses.
//
//    route        Iface Destination Gateway Flags ...          after a heading; addresses as little-endian hexadecimal
//    ipv6_route   destination length source length next-hop metric references use flags Iface

import { type Address, formatAddress } from '../ipam/prefix.ts';

const RTF_GATEWAY = 2;

/** Each once, in the order of the routes. */
export const gatewaysOfRoutes = (route: string, ipv6Route: string): string[] => {
  const found = new Set<string>();
  for (const line of route.split('\n').slice(1)) {
    const [, , gateway = '', flags = ''] = line.trim().split(/\s+/);
    const isOne = /^[0-9A-F]{8}$/i.test(gateway) && (Number.parseInt(flags, 16) & RTF_GATEWAY) !== 0;
    if (isOne) add(found, { family: 4, value: BigInt(`0x${gateway.match(/../g)?.reverse().join('')}`) });
  }
  for (const line of ipv6Route.split('\n')) {
    const fields = line.trim().split(/\s+/);
    const [nextHop = '', flags = ''] = [fields[4], fields[8]];
    const isOne = /^[0-9a-f]{32}$/i.test(nextHop) && (Number.parseInt(flags, 16) & RTF_GATEWAY) !== 0;
    if (isOne) add(found, { family: 6, value: BigInt(`0x${nextHop}`) });
  }
  return [...found];
};

const add = (found: Set<string>, address: Address): void => {
  if (address.value !== 0n) found.add(formatAddress(address));
};
