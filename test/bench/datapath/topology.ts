// Two hosts on a cable, and where traffic begins and ends: in the hosts themselves (the bare device), or in pods behind
// router namespaces, as under an agent.
//
//   bare:  host ═ TUN … cable … TUN ═ host
//   pods:  pod ─ veth ─ router ═ TUN … host ─ cable ─ host … TUN ═ router ─ veth ─ pod

import type { Host } from '../../lab/host.ts';
import type { Lab } from '../../lab/lab.ts';

export type Topology = 'bare' | 'pods';
export type Family = 'v4' | 'v6';

export const MTU = 1420;

export interface Site {
  /** Where the tunnel's socket is. */
  readonly host: Host;
  /** Where its TUN is. */
  readonly tunHost: Host;
  /** Where traffic begins and ends. */
  readonly end: Host;
  readonly outside: Readonly<Record<Family, string>>;
  readonly inside: Readonly<Record<Family, string>>;
  /** What the other side sends into the tunnel. */
  readonly prefixes: readonly string[];
  /** What the TUN itself is given. */
  readonly tunAddresses: readonly string[];
}

export type Sites = readonly [Site, Site];

export const makeSites = async (lab: Lab, topology: Topology): Promise<Sites> => {
  const a = await makeSite(lab, topology, 1);
  const b = await makeSite(lab, topology, 2);
  const cable = (site: Site) => ({
    host: site.host,
    interface: 'eth0',
    addresses: [`${site.outside.v4}/24`, `${site.outside.v6}/64`],
  });
  await lab.cable(cable(a), cable(b));
  return [a, b];
};

const makeSite = async (lab: Lab, topology: Topology, n: number): Promise<Site> => {
  const host = await lab.host(`${topology}-host${n}`);
  const outside = { v4: `192.0.2.${n}`, v6: `2001:db8::${n}` };
  const prefixes = [`10.0.${n}.0/24`, `fd00:${n}::/64`];
  if (topology === 'bare') {
    const inside = { v4: `10.0.${n}.1`, v6: `fd00:${n}::1` };
    const tunAddresses = [`${inside.v4}/32`, `${inside.v6}/128`];
    return { host, tunHost: host, end: host, outside, inside, prefixes, tunAddresses };
  }
  const router = await lab.host(`${topology}-router${n}`, { forward: true });
  const pod = await lab.host(`${topology}-pod${n}`);
  await router.set({ 'ipv6/conf/all/forwarding': 1 });
  await lab.cable(
    { host: pod, interface: 'eth0', addresses: [`10.0.${n}.2/24`, `fd00:${n}::2/64`] },
    { host: router, interface: 'pod', addresses: [`10.0.${n}.1/24`, `fd00:${n}::1/64`] },
    { mtu: MTU },
  );
  await pod.ip(`route add default via 10.0.${n}.1`, `route add default via fd00:${n}::1`);
  const inside = { v4: `10.0.${n}.2`, v6: `fd00:${n}::2` };
  return { host, tunHost: router, end: pod, outside, inside, prefixes, tunAddresses: [] };
};
