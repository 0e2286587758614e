// The node's underlay: which of its interfaces carry traffic to other nodes, their lowest MTU and their addresses.
//
// The rule. An interface counts when it is up with something at its other end, is no port of another, and bears a
// global address that is no mere host address, or a route with a gateway leaves by it. Never: the loopback, tunnels
// (tun, vxlan, wireguard ...) and dummies, which ride on another interface or on none. A bridge counts only with a
// gateway route or a hardware port: containers' bridges (docker0, cni0) have neither. A veth can be a node's uplink
// (nodes that are containers themselves) and counts as above: pods' veths have no address or a host address only.

import { type Address, familyBits } from '../../native-free/ipam/prefix.ts';
import { type Link, type NamespaceState, ROUTE_UNICAST, type Route, readNamespace } from './ip.ts';
import type { ToolRunner } from './tool.ts';

/** What a packet grows by on its way out: IPv6 40, UDP 8, transport data header and tag 32. */
export const ENCAPSULATION_OVERHEAD = 80;

const NEVER = new Set([
  ...['tun', 'dummy', 'ifb', 'vrf', 'nlmon', 'vcan', 'vxlan', 'geneve', 'bareudp', 'ipip', 'sit', 'ip6tnl'],
  ...[
    'gre',
    'gretap',
    'ip6gre',
    'ip6gretap',
    'erspan',
    'ip6erspan',
    'vti',
    'vti6',
    'xfrm',
    'wireguard',
    'gtp',
  ],
]);

/** True when a route with a gateway leaves by it. */
const hasGateway = (link: Link, routes: readonly Route[]): boolean =>
  routes.some(
    ({ type, gateways, devices }) =>
      type === ROUTE_UNICAST && gateways.length > 0 && devices.includes(link.name),
  );

const isHardware = (link: Link): boolean =>
  link.kind === undefined || link.kind === 'bond' || link.kind === 'team';

/** The interfaces that count, by the rule above. */
export const underlayLinks = ({ links, routes }: NamespaceState): Link[] =>
  links.filter((link) => {
    if (!link.running || link.loopback || link.master !== undefined) return false;
    if (link.kind !== undefined && NEVER.has(link.kind)) return false;
    if (link.kind === 'bridge' && !links.some((port) => port.master === link.name && isHardware(port))) {
      return hasGateway(link, routes);
    }
    const shared = link.addresses.some(
      ({ address, length, global }) => global && length < familyBits(address.family),
    );
    return shared || hasGateway(link, routes);
  });

/** The lowest MTU of the interfaces that count and of the routes that leave by them; undefined when none does. */
export const lowestMtu = (state: NamespaceState): number | undefined => {
  const links = underlayLinks(state);
  const names = new Set(links.map(({ name }) => name));
  const routes = state.routes.filter(
    ({ type, devices }) => type === ROUTE_UNICAST && devices.some((device) => names.has(device)),
  );
  const mtus = [...links, ...routes].flatMap(({ mtu }) => (mtu === undefined ? [] : [mtu]));
  return mtus.length === 0 ? undefined : Math.min(...mtus);
};

/** The addresses another node may reach this one at: global scope, lasting, on an interface that counts. */
export const reachableAddresses = (state: NamespaceState): Address[] =>
  underlayLinks(state).flatMap(({ addresses }) =>
    addresses
      .filter(({ address, global, usable }) => global && usable && !isLinkLocal(address))
      .map(({ address }) => address),
  );

// Some tools give 169.254.x.x global scope.
const isLinkLocal = ({ family, value }: Address): boolean =>
  family === 4 ? value >> 16n === 0xa9fen : value >> 118n === 0xfe80n >> 6n;

/** Every address that the namespace has, bridges of containers and overlays among them. */
const everyAddress = ({ links }: NamespaceState): Address[] =>
  links.flatMap(({ addresses }) => addresses.map(({ address }) => address));

export interface Underlay {
  /** A network's MTU is this less ENCAPSULATION_OVERHEAD. */
  readonly mtu: number | undefined;
  /** For announced endpoints. */
  readonly reachable: readonly Address[];
  readonly own: readonly Address[];
}

/** Of the agent's own namespace. */
export const readUnderlay = async (tools: ToolRunner): Promise<Underlay> => {
  const state = await readNamespace(tools, undefined);
  return { mtu: lowestMtu(state), reachable: reachableAddresses(state), own: everyAddress(state) };
};
