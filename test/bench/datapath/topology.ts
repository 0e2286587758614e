// Two hosts on a cable, and where traffic begins and ends: in the hosts themselves (the bare device), or in pods behind
// router namespaces, as under an agent. A third host knows where the second one's port is, and has no key that it knows.
//
//   bare:  host ═ TUN … cable … TUN ═ host ─ outsider
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

/** Where the second host is reached from outside, by whom. */
export interface Outsider {
  readonly host: Host;
  readonly target: string;
}

export interface World {
  readonly sites: Sites;
  readonly outsider: Outsider | undefined;
}

/** `name`: of the world, among those of the lab. */
export const makeWorld = async (lab: Lab, topology: Topology, name: string): Promise<World> => {
  const a = await makeSite(lab, topology, name, 1);
  const b = await makeSite(lab, topology, name, 2);
  const cable = (site: Site) => ({
    host: site.host,
    interface: 'eth0',
    addresses: [`${site.outside.v4}/24`, `${site.outside.v6}/64`],
  });
  await lab.cable(cable(a), cable(b));
  if (topology === 'pods') return { sites: [a, b], outsider: undefined };
  const host = await lab.host(`${name}-outsider`);
  const target = '198.51.100.1';
  await lab.cable(
    { host: b.host, interface: 'eth1', addresses: [`${target}/24`] },
    { host, interface: 'eth0', addresses: ['198.51.100.2/24'] },
  );
  return { sites: [a, b], outsider: { host, target } };
};

const makeSite = async (lab: Lab, topology: Topology, name: string, n: number): Promise<Site> => {
  const host = await lab.host(`${name}-host${n}`);
  const outside = { v4: `192.0.2.${n}`, v6: `2001:db8::${n}` };
  const prefixes = [`10.0.${n}.0/24`, `fd00:${n}::/64`];
  if (topology === 'bare') {
    const inside = { v4: `10.0.${n}.1`, v6: `fd00:${n}::1` };
    const tunAddresses = [`${inside.v4}/32`, `${inside.v6}/128`];
    return { host, tunHost: host, end: host, outside, inside, prefixes, tunAddresses };
  }
  const router = await lab.host(`${name}-router${n}`, { forward: true });
  const pod = await lab.host(`${name}-pod${n}`);
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
