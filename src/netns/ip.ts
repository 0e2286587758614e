// iproute2 as data: what a namespace holds, read in one process by `ip -json -batch -`, and changes applied in one
// process by `ip -batch -`. Commands are lists of words that hold only checked names and formatted addresses.

import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import {
  type Address,
  hostPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../../native-free/ipam/prefix.ts';
import type { ToolRunner } from './tool.ts';

/** The words of one `ip` command, e.g. ['link', 'set', 'dev', 'red', 'up']. */
export type Command = readonly string[];

export interface LinkAddress {
  readonly address: Address;
  readonly length: number;
  readonly global: boolean;
  /** False while tentative, after failed duplicate detection, when deprecated or temporary. */
  readonly usable: boolean;
}

export interface Link {
  readonly index: number;
  readonly name: string;
  /** "veth", "tun", "bridge" ...; undefined for hardware and the loopback. */
  readonly kind: string | undefined;
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  /** Up, something is at the other end, and the kernel has taken notice: it sends. */
  readonly running: boolean;
  readonly loopback: boolean;
  /** Of a veth: its other end's index (in that end's namespace). */
  readonly peerIndex: number | undefined;
  readonly master: string | undefined;
  readonly alias: string | undefined;
  readonly addresses: readonly LinkAddress[];
}

/** rtm_type of linux/rtnetlink.h. */
export const ROUTE_UNICAST = 1;
const ROUTE_LOCAL = 2;
export const ROUTE_UNREACHABLE = 7;
const ROUTE_ANYCAST = 4;
const TABLE_MAIN = 254;

/** rtm_protocol of what vl3 puts into a table, so that it knows its own. */
export const ROUTE_PROTOCOL = 118;

export interface Route {
  readonly type: number;
  /** Undefined: a default route. */
  readonly destination: Prefix | undefined;
  readonly gateways: readonly Address[];
  readonly devices: readonly string[];
  readonly source: Address | undefined;
  readonly table: number;
  readonly protocol: number;
  readonly onlink: boolean;
  readonly mtu: number | undefined;
}

export interface Neighbour {
  readonly address: Address;
  readonly device: string;
  readonly mac: string;
  readonly isRouter: boolean;
}

export interface NamespaceState {
  readonly links: readonly Link[];
  readonly routes: readonly Route[];
  /** The addresses that packets are taken in for: an IPv6 address is one some time after it was added. */
  readonly local: readonly Address[];
  /** The permanent ones. */
  readonly neighbours: readonly Neighbour[];
}

const linkSchema = z.object({
  ifindex: z.number(),
  ifname: z.string(),
  link_index: z.number().optional(),
  flags: z.array(z.string()),
  operstate: z.string().default('UNKNOWN'),
  mtu: z.number(),
  address: z.string().optional(),
  master: z.string().optional(),
  ifalias: z.string().optional(),
  linkinfo: z.object({ info_kind: z.string().optional() }).optional(),
  addr_info: z
    .array(
      z.object({
        family: z.string(),
        local: z.string(),
        prefixlen: z.number(),
        scope: z.string(),
        tentative: z.boolean().optional(),
        dadfailed: z.boolean().optional(),
        deprecated: z.boolean().optional(),
        temporary: z.boolean().optional(),
      }),
    )
    .default([]),
});

const routeSchema = z.object({
  type: z.string(),
  dst: z.string(),
  gateway: z.string().optional(),
  via: z.object({ host: z.string() }).optional(),
  dev: z.string().optional(),
  prefsrc: z.string().optional(),
  table: z.string().default(String(TABLE_MAIN)),
  protocol: z.string().default('0'),
  flags: z.array(z.string()).default([]),
  metrics: z.array(z.object({ mtu: z.number().optional() })).default([]),
  nexthops: z
    .array(
      z.object({
        gateway: z.string().optional(),
        via: z.object({ host: z.string() }).optional(),
        dev: z.string().optional(),
      }),
    )
    .default([]),
});

const neighbourSchema = z.object({
  dst: z.string(),
  dev: z.string().optional(),
  lladdr: z.string().optional(),
  // A flag: there or not.
  router: z.unknown().optional(),
});

// Interfaces that keep no state (the loopback, a TUN) say UNKNOWN.
const SENDING = new Set(['UP', 'UNKNOWN']);

const toLink = (link: z.infer<typeof linkSchema>): Link => ({
  index: link.ifindex,
  name: link.ifname,
  kind: link.linkinfo?.info_kind,
  mac: link.address ?? '',
  mtu: link.mtu,
  up: link.flags.includes('UP'),
  running: link.flags.includes('UP') && link.flags.includes('LOWER_UP') && SENDING.has(link.operstate),
  loopback: link.flags.includes('LOOPBACK'),
  peerIndex: link.link_index,
  master: link.master,
  alias: link.ifalias,
  addresses: link.addr_info
    .filter(({ family }) => family === 'inet' || family === 'inet6')
    .map((info) => ({
      address: parseAddress(info.local),
      length: info.prefixlen,
      global: info.scope === '0',
      usable: !(info.tentative || info.dadfailed || info.deprecated || info.temporary),
    })),
});

const toDestination = (text: string): Prefix | undefined => {
  if (text === 'default') return undefined;
  const prefix = text.includes('/') ? parsePrefix(text) : hostPrefix(parseAddress(text));
  return prefix.length === 0 ? undefined : prefix;
};

/** `device`: the one asked for, which `ip` then leaves out. */
const toRoute = (route: z.infer<typeof routeSchema>, device: string | undefined): Route => {
  const hops = [route, ...route.nexthops];
  return {
    type: Number(route.type),
    destination: toDestination(route.dst),
    gateways: hops.flatMap(({ gateway, via }) => {
      const text = gateway ?? via?.host;
      return text === undefined ? [] : [parseAddress(text)];
    }),
    devices: device === undefined ? hops.flatMap(({ dev }) => (dev === undefined ? [] : [dev])) : [device],
    source: route.prefsrc === undefined ? undefined : parseAddress(route.prefsrc),
    table: Number(route.table),
    protocol: Number(route.protocol),
    onlink: route.flags.includes('onlink'),
    mtu: route.metrics.find(({ mtu }) => mtu !== undefined)?.mtu,
  };
};

/** Local, broadcast, anycast and multicast routes follow from addresses: not what an operator means by a route. */
const isOrdinary = (route: Route): boolean =>
  route.type === ROUTE_UNICAST || (route.type > ROUTE_ANYCAST + 1 && route.type <= 8);

/**
 * Links with their addresses, routes of all tables and permanent neighbours of a namespace (undefined: the agent's
 * own). `device` reads that one's only, and throws ToolFailure when there is none.
 */
export const readNamespace = (
  tools: ToolRunner,
  netns: string | undefined,
  device?: string,
  signal?: AbortSignal,
): Promise<NamespaceState> => applyAndRead(tools, netns, [], device, signal);

/** Applies the commands in order and reads what is there then, in one process. Stops at the first that fails. */
export const applyAndRead = async (
  tools: ToolRunner,
  netns: string | undefined,
  commands: readonly Command[],
  device?: string,
  signal?: AbortSignal,
): Promise<NamespaceState> => {
  const of = device === undefined ? [] : ['dev', device];
  const reading = [
    ['address', 'show', ...of],
    ['route', 'show', 'table', 'all', ...of],
    ['neighbour', 'show', ...of, 'nud', 'permanent'],
  ];
  // Numeric: names of protocols, scopes and tables differ from machine to machine.
  const output = await runBatch(
    tools,
    netns,
    ['-details', '-Numeric', '-json'],
    [...commands, ...reading],
    signal,
  );
  const [links = [], allRoutes = [], neighbours = []] = parseDocuments(output);
  const routes = z
    .array(routeSchema)
    .parse(allRoutes)
    .map((route) => toRoute(route, device));
  return {
    links: z.array(linkSchema).parse(links).map(toLink),
    routes: routes.filter(isOrdinary),
    local: routes.flatMap(({ type, destination }) =>
      type === ROUTE_LOCAL && destination !== undefined ? [destination] : [],
    ),
    neighbours: z
      .array(neighbourSchema)
      .parse(neighbours)
      .map(({ dst, dev, lladdr, router }) => ({
        address: parseAddress(dst),
        device: dev ?? device ?? '',
        mac: lladdr ?? '',
        isRouter: router !== undefined,
      })),
  };
};

/** `ip -json -batch` prints one JSON document a command, each on a line of its own. */
const parseDocuments = (output: string): unknown[] => {
  try {
    return output
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => JSON.parse(line) as unknown);
  } catch (error) {
    throw new Vl3Error(
      'internal',
      '"ip -json" answered something else than JSON: iproute2 6.1 or later is needed',
      {
        cause: error,
      },
    );
  }
};

/** Applies the commands in order in one process; stops at the first that fails. Nothing to do: no process. */
export const applyCommands = async (
  tools: ToolRunner,
  netns: string | undefined,
  commands: readonly Command[],
  signal?: AbortSignal,
): Promise<void> => {
  if (commands.length > 0) await runBatch(tools, netns, [], commands, signal);
};

const runBatch = (
  tools: ToolRunner,
  netns: string | undefined,
  flags: readonly string[],
  commands: readonly Command[],
  signal: AbortSignal | undefined,
): Promise<string> => {
  const input = commands.map((words) => `${words.join(' ')}\n`).join('');
  return tools.run({ program: 'ip', arguments: [...flags, '-batch', '-'], netns, input }, signal);
};
