// The router namespace of one network on one node: the network's TUN, the gateway addresses, routes, settings and
// rules. What it ought to be is data (RouterSpec); ensureRouter leads there from whatever is found. The TUN itself
// is made by the datapath, pods' interfaces by veth.

import { Vl3Error } from '../../native-free/error.ts';
import { type Address, hostPrefix, type Prefix } from '../../native-free/ipam/prefix.ts';
import { applyInterface, settleInterface } from './interface.ts';
import { host, type InterfaceState, unreachableCommands } from './interface-state.ts';
import {
  applyCommands,
  type Link,
  type NamespaceState,
  ROUTE_PROTOCOL,
  type Route,
  readNamespace,
} from './ip.ts';
import { checkInterfaceName } from './names.ts';
import {
  ensureNamespace,
  listNamespaces,
  namedNamespace,
  namedNamespacePath,
  removeNamespace,
} from './namespace.ts';
import { applyRules, dismissPod, podElements, type RuleState, readRules, routerRules } from './rules.ts';
import { routerSettings, tunSettings, writeSettings } from './sysctl.ts';
import type { ToolRunner } from './tool.ts';

export interface RouterSpec {
  /** The name of its namespace. */
  readonly router: string;
  /** The TUN in it. */
  readonly tun: string;
  readonly mtu: number;
  /** The gateway address of each family. */
  readonly gateways: readonly Address[];
  readonly pools: readonly Prefix[];
  /** Of stock WireGuard peers of this node: in its prefixes, but behind the TUN. Default: none. */
  readonly stockPeers?: readonly Address[];
  /** Unreachable, but for addresses with a route of their own: what this node leases, and who is not there. */
  readonly prefixes: readonly Prefix[];
}

export interface RouterState {
  readonly router: string;
  readonly links: readonly Link[];
  readonly routes: readonly Route[];
  readonly attachments: readonly RouterAttachment[];
  /** Undefined: the rules are not there. */
  readonly rules: RuleState | undefined;
}

/** A pod's end as found in the router namespace. */
export interface RouterAttachment {
  readonly attachmentId: string;
  readonly hostInterface: string;
  readonly running: boolean;
}

/** Host interfaces bear their attachment's id as alias, after this. */
const ALIAS = 'vl3:';

export const attachmentAlias = (attachmentId: string): string => `${ALIAS}${attachmentId}`;

/** Makes the namespace, visible on the host as /run/netns/<name>, unless it is there. The TUN goes in next. */
export const ensureRouterNamespace = (tools: ToolRunner, router: string): Promise<void> =>
  ensureNamespace(tools, router);

/**
 * Brings the namespace to what the spec says; pods' interfaces stay as they are. Run twice, it changes nothing.
 * Throws Vl3Error('failed-precondition') when the TUN is not there.
 */
export const ensureRouter = async (
  tools: ToolRunner,
  spec: RouterSpec,
  signal?: AbortSignal,
): Promise<void> => {
  checkInterfaceName(spec.tun);
  const netns = namedNamespacePath(spec.router);
  // In this order: a pod is admitted after its interface is made, so what has rules and no interface is gone.
  const rules = await readRules(tools, netns, signal);
  const found = await readNamespace(tools, netns, undefined, signal);
  if (!found.links.some(({ name }) => name === spec.tun)) {
    throw new Vl3Error(
      'failed-precondition',
      `the router namespace ${spec.router} has no TUN "${spec.tun}": make it before the router is set up`,
    );
  }
  // Rules and settings stand before the first packet can pass.
  await Promise.all([
    writeSettings(tools, netns, [...routerSettings(), ...tunSettings(spec.tun)], signal),
    applyRules(
      tools,
      netns,
      routerRules(spec.tun, spec.stockPeers ?? []) + dismissGone(found.links, rules),
      signal,
    ),
  ]);
  const loopback = found.links.find(({ loopback }) => loopback);
  const before = [
    ...(loopback?.up === true ? [] : [['link', 'set', 'dev', 'lo', 'up']]),
    ...unreachableCommands(spec.prefixes, found),
  ];
  const tun = tunState(spec);
  const after = await applyInterface(tools, netns, tun, found, before, signal);
  await settleInterface(tools, netns, tun, after, signal);
};

/** Makes these prefixes, and no others, unreachable in the namespace. */
export const setUnreachable = async (
  tools: ToolRunner,
  router: string,
  prefixes: readonly Prefix[],
): Promise<void> => {
  const netns = namedNamespacePath(router);
  await applyCommands(tools, netns, unreachableCommands(prefixes, await readNamespace(tools, netns)));
};

const tunState = (spec: RouterSpec): InterfaceState => ({
  name: spec.tun,
  mtu: spec.mtu,
  // It has one while the agent holds it.
  needsCarrier: false,
  addresses: spec.gateways.map(host),
  routes: [...spec.pools, ...(spec.stockPeers ?? []).map(hostPrefix)].map((destination) => {
    const source = spec.gateways.find(({ family }) => family === destination.family);
    return source === undefined ? { destination } : { destination, source };
  }),
  neighbours: [],
});

/** Takes out the elements of interfaces that went with their pod. */
const dismissGone = (links: readonly Link[], rules: RuleState | undefined): string => {
  const isGone = (name: string): boolean => !links.some((link) => link.name === name);
  const names = new Set([
    ...(rules?.pods ?? []),
    ...(rules?.sources ?? []).map((source) => source.interface),
  ]);
  return [...names]
    .filter(isGone)
    .map((name) => {
      const sources = rules?.sources.filter((source) => source.interface === name) ?? [];
      return dismissPod(
        podElements(
          name,
          sources.map(({ address }) => address),
        ),
      );
    })
    .join('');
};

/** Removes the namespace with all that is in it, also the pods' ends. The TUN's owner closes it first. */
export const removeRouter = async (tools: ToolRunner, router: string): Promise<void> => {
  if ((await namedNamespace(router)) !== undefined) {
    const netns = namedNamespacePath(router);
    const { links } = await readNamespace(tools, netns);
    // Deleted here, they are gone from the pods when this returns; with the namespace, some time later.
    const commands = links
      .filter(({ kind }) => kind === 'veth')
      .map(({ name }) => ['link', 'delete', 'dev', name]);
    await applyCommands(tools, netns, commands).catch(() => undefined);
  }
  await removeNamespace(tools, router);
};

/** Whether this is what a router namespace looks like, of whichever network and agent: it routes into a tunnel. */
export const isRouter = ({ links, routes }: NamespaceState): boolean =>
  links.some(
    ({ name, kind }) =>
      kind === 'tun' &&
      routes.some(({ protocol, devices }) => protocol === ROUTE_PROTOCOL && devices.includes(name)),
  );

/** The router namespaces on this machine whose names begin with `prefix`. */
export const listRouters = (prefix: string): Promise<string[]> => listNamespaces(prefix);

/** What is there; undefined when the namespace does not exist. */
export const readRouter = async (tools: ToolRunner, router: string): Promise<RouterState | undefined> => {
  if ((await namedNamespace(router)) === undefined) return undefined;
  const netns = namedNamespacePath(router);
  const [{ links, routes }, rules] = await Promise.all([
    readNamespace(tools, netns),
    readRules(tools, netns),
  ]);
  const attachments = links.flatMap(({ name, alias, running }) =>
    alias?.startsWith(ALIAS)
      ? [{ attachmentId: alias.slice(ALIAS.length), hostInterface: name, running }]
      : [],
  );
  return { router, links, routes, attachments, rules };
};
