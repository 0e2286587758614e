// An interface as it ought to be, as data, and the commands that lead there from what is found. Pure: the same for a
// pod's end, its host end and a TUN. Run on a finished interface it yields no command.

import {
  type Address,
  familyBits,
  formatAddress,
  formatPrefix,
  type Prefix,
} from '../../native-free/ipam/prefix.ts';
import {
  type Command,
  type NamespaceState,
  ROUTE_PROTOCOL,
  ROUTE_UNICAST,
  ROUTE_UNREACHABLE,
  type Route,
} from './ip.ts';

export interface RouteState {
  readonly destination: Prefix;
  /** Undefined: on the link. Assumed on the link itself, whatever the other routes say. */
  readonly gateway?: Address;
  readonly source?: Address;
}

export interface NeighbourState {
  readonly address: Address;
  readonly mac: string;
  /**
   * An IPv6 gateway. Of one that is none, Linux forgets every 30 s which path MTUs were learned through it: each time
   * packets are lost again, and UDP sockets that are connected get EMSGSIZE.
   */
  readonly isRouter: boolean;
}

export interface InterfaceState {
  readonly name: string;
  readonly mtu: number;
  /** Whether it must have something at its other end to be of use. */
  readonly needsCarrier: boolean;
  /** Undefined: left as it is. */
  readonly alias?: string;
  readonly addresses: readonly { readonly address: Address; readonly length: number }[];
  readonly routes: readonly RouteState[];
  readonly neighbours: readonly NeighbourState[];
}

const sameAddress = (a: Address | undefined, b: Address | undefined): boolean =>
  a?.family === b?.family && a?.value === b?.value;

const samePrefix = (a: Prefix, b: Prefix | undefined): boolean => sameAddress(a, b) && a.length === b?.length;

/** The commands that turn what `found` shows of the interface into `wanted`. */
export const interfaceCommands = (wanted: InterfaceState, found: NamespaceState): Command[] => {
  const dev = ['dev', wanted.name];
  const link = found.links.find(({ name }) => name === wanted.name);
  const addresses = link?.addresses ?? [];
  const commands: Command[] = [];

  if (link?.mtu !== wanted.mtu) commands.push(['link', 'set', ...dev, 'mtu', String(wanted.mtu)]);
  if (wanted.alias !== undefined && link?.alias !== wanted.alias) {
    commands.push(['link', 'set', ...dev, 'alias', wanted.alias]);
  }
  for (const { address, length } of wanted.addresses) {
    if (addresses.some((has) => sameAddress(has.address, address) && has.length === length && has.usable))
      continue;
    const flags = address.family === 6 ? ['nodad'] : [];
    // A /128's own prefix route would say the same as its local route.
    if (length === 128) flags.push('noprefixroute');
    commands.push(['address', 'replace', `${formatAddress(address)}/${length}`, ...dev, ...flags]);
  }
  const stale = addresses.filter(
    (has) =>
      !wanted.addresses.some(
        ({ address, length }) => sameAddress(has.address, address) && has.length === length,
      ),
  );
  for (const { address, length } of stale) {
    commands.push(['address', 'delete', `${formatAddress(address)}/${length}`, ...dev]);
  }
  if (link?.up !== true) commands.push(['link', 'set', ...dev, 'up']);

  // Deleting an address may flush routes, so then all are said again.
  const routes = found.routes.filter(({ devices }) => devices.includes(wanted.name));
  commands.push(...deviceRouteCommands(wanted, routes, stale.length > 0));
  commands.push(...neighbourCommands(wanted, found));
  return commands;
};

/** Whether the kernel has done what follows from the commands some time later: the link sends, addresses take in. */
export const isSettled = (wanted: InterfaceState, found: NamespaceState): boolean => {
  const link = found.links.find(({ name }) => name === wanted.name);
  return (
    link !== undefined &&
    (link.running || !wanted.needsCarrier) &&
    wanted.addresses.every(({ address }) => found.local.some((local) => sameAddress(local, address)))
  );
};

const deviceRouteCommands = (wanted: InterfaceState, found: readonly Route[], sayAll: boolean): Command[] => {
  const has = (route: RouteState): boolean =>
    found.some(
      (one) =>
        one.type === ROUTE_UNICAST &&
        one.protocol === ROUTE_PROTOCOL &&
        samePrefix(route.destination, one.destination) &&
        one.gateways.length === (route.gateway === undefined ? 0 : 1) &&
        sameAddress(route.gateway, one.gateways[0]) &&
        sameAddress(route.source, one.source),
    );
  const set = wanted.routes
    .filter((route) => sayAll || !has(route))
    .map((route) => replaceRoute(route, wanted.name));
  const removed = found
    .filter((one) => one.protocol === ROUTE_PROTOCOL)
    .flatMap(({ destination }) => (destination === undefined ? [] : [destination]))
    .filter((destination) => !wanted.routes.some((route) => samePrefix(route.destination, destination)))
    .map((destination) => ['route', 'delete', formatPrefix(destination), 'dev', wanted.name, ...PROTOCOL]);
  return [...set, ...removed];
};

const PROTOCOL = ['proto', String(ROUTE_PROTOCOL)];

const replaceRoute = (route: RouteState, device: string): Command => {
  const words = ['route', 'replace', formatPrefix(route.destination)];
  if (route.gateway !== undefined) words.push('via', formatAddress(route.gateway));
  words.push('dev', device);
  // fe80::/10 is on the link by definition, and iproute2 takes "onlink" for it as well.
  if (route.gateway?.family === 4) words.push('onlink');
  words.push(...PROTOCOL);
  if (route.source !== undefined) words.push('src', formatAddress(route.source));
  return words;
};

const sameNeighbour = (a: NeighbourState, b: NeighbourState): boolean =>
  sameAddress(a.address, b.address) && a.mac === b.mac && a.isRouter === b.isRouter;

const neighbourCommands = (wanted: InterfaceState, found: NamespaceState): Command[] => {
  const mine = found.neighbours.filter(({ device }) => device === wanted.name);
  const set = wanted.neighbours
    .filter((neighbour) => !mine.some((one) => sameNeighbour(one, neighbour)))
    .map(({ address, mac, isRouter }) => [
      ...['neighbour', 'replace', formatAddress(address)],
      ...['dev', wanted.name, 'lladdr', mac, 'nud', 'permanent', ...(isRouter ? ['router'] : [])],
    ]);
  const removed = mine
    .filter(({ address }) => !wanted.neighbours.some((one) => sameAddress(one.address, address)))
    .map(({ address }) => ['neighbour', 'delete', formatAddress(address), 'dev', wanted.name]);
  return [...set, ...removed];
};

/** The commands that make exactly these prefixes unreachable (but for more specific routes). */
export const unreachableCommands = (wanted: readonly Prefix[], found: NamespaceState): Command[] => {
  const has = found.routes.filter(
    ({ type, protocol }) => type === ROUTE_UNREACHABLE && protocol === ROUTE_PROTOCOL,
  );
  const set = wanted
    .filter((prefix) => !has.some(({ destination }) => samePrefix(prefix, destination)))
    .map((prefix) => ['route', 'replace', 'unreachable', formatPrefix(prefix), ...PROTOCOL]);
  const removed = has
    .flatMap(({ destination }) => (destination === undefined ? [] : [destination]))
    .filter((destination) => !wanted.some((prefix) => samePrefix(prefix, destination)))
    .map((destination) => ['route', 'delete', 'unreachable', formatPrefix(destination), ...PROTOCOL]);
  return [...set, ...removed];
};

/** The prefix of one address. */
export const host = (address: Address): { address: Address; length: number } => ({
  address,
  length: familyBits(address.family),
});
