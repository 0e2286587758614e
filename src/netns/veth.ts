// A pod's interface on a network: a veth pair with one end in the pod, named and addressed, and the other in the
// network's router namespace. Steps of ensureAttachment:
//
//   1  open the pod's namespace, read what is there, refuse what must not be
//   2  create the pair, the pod's end straight into its namespace (or recognise the one that is there)
//   3  settings and rules, while the pod's end is down
//   4  the pod's end: addresses, up, routes, neighbours; then the router's end, up since step 2
//   5  wait until both are of use, which they mostly are
//
// What fails takes with it all that this call has made. Nothing here touches the pod's default route.

import type { MadeInterface } from '../../native-free/cni/result.ts';
import { Vl3Error } from '../../native-free/error.ts';
import {
  type Address,
  formatAddress,
  formatPrefix,
  hostPrefix,
  type Prefix,
} from '../../native-free/ipam/prefix.ts';
import { applyInterface, settleInterface } from './interface.ts';
import { host, type InterfaceState, interfaceCommands } from './interface-state.ts';
import { applyCommands, type Link, type NamespaceState, readNamespace } from './ip.ts';
import {
  checkAttachmentId,
  checkInterfaceName,
  hostInterfaceName,
  linkLocalAddress,
  macAddress,
  ROUTER_LINK_LOCAL,
} from './names.ts';
import {
  namedNamespace,
  namedNamespacePath,
  openNamespace,
  refuseHostNamespace,
  sameNamespace,
} from './namespace.ts';
import { refuseOverlap, type Taken, takenPrefixes } from './pod-routes.ts';
import { attachmentAlias, isRouter } from './router.ts';
import { admitPod, applyRules, dismissPod, podElements } from './rules.ts';
import { hostInterfaceSettings, podInterfaceSettings, writeSettings } from './sysctl.ts';
import { ToolFailure, type ToolRunner } from './tool.ts';

export interface AttachmentSpec {
  readonly attachmentId: string;
  /** The name of the network's router namespace. */
  readonly router: string;
  /** Path of the pod's network namespace. */
  readonly podNetns: string;
  /** What tells the namespace from another that may be at the path by now, as its device:inode; undefined: whatever is there. */
  readonly podNetnsId?: string;
  readonly podInterface: string;
  /** The pod's own, one or more of each family the network has; the first of a family is what it sends from. */
  readonly addresses: readonly Address[];
  /** The node's gateway address; needed for IPv4, which is routed through it. */
  readonly gateways: readonly Address[];
  readonly pools: readonly Prefix[];
  readonly mtu: number;
  /** What else the pools must not overlap, e.g. the cluster's service range. */
  readonly taken?: readonly Taken[];
}

export interface Attached {
  readonly hostInterface: string;
  /** The MAC address of the pod's end. */
  readonly mac: string;
  /** False: it was there already (and is now as it ought to be). */
  readonly created: boolean;
}

/** Where an attachment is, to remove it: its id, its router and its addresses. */
export type AttachmentPlace = Pick<AttachmentSpec, 'attachmentId' | 'router' | 'addresses'>;

/**
 * Gives the pod its interface on the network. Run twice, it changes nothing; after a crash, it heals. Throws Vl3Error:
 * 'invalid-argument' (a bad name, no network namespace, the host's), 'not-found' (no such namespace, or another by now),
 * 'already-exists' (the interface name is taken), 'failed-precondition' (pools overlap what the pod reaches).
 */
export const ensureAttachment = async (
  tools: ToolRunner,
  spec: AttachmentSpec,
  signal?: AbortSignal,
): Promise<Attached> => {
  checkSpec(spec);
  const hostInterface = hostInterfaceName(spec.attachmentId);
  const router = namedNamespacePath(spec.router);

  await using pod = await openNamespace(tools, spec.podNetns);
  await refuseHostNamespace(pod, spec.podNetns);
  if (spec.podNetnsId !== undefined && spec.podNetnsId !== `${pod.dev}:${pod.ino}`)
    throw new Vl3Error('not-found', `another network namespace is at ${spec.podNetns} by now`);
  const routerIdentity = await namedNamespace(spec.router);
  if (routerIdentity === undefined) {
    throw new Vl3Error(
      'failed-precondition',
      `the router namespace ${spec.router} is not there: set it up first`,
    );
  }
  const podBefore = await readNamespace(tools, pod.path, undefined, signal);
  if (sameNamespace(pod, routerIdentity) || isRouter(podBefore)) {
    throw new Vl3Error(
      'invalid-argument',
      `${spec.podNetns} is a router namespace of vl3: name a workload's`,
    );
  }
  const existing = podBefore.links.find(({ name }) => name === spec.podInterface);
  let routerBefore = NOTHING;
  if (existing !== undefined) {
    routerBefore = await readHostInterface(tools, router, hostInterface, signal);
    refuseForeign(spec, existing, routerBefore.links[0]);
  }
  refuseOverlap(spec.pools, [...takenPrefixes(podBefore, spec.podInterface), ...(spec.taken ?? [])]);

  try {
    if (existing === undefined) await createPair(tools, spec, router, pod.path, signal);
    const withIpv6 = spec.addresses.some(({ family }) => family === 6);
    await allSettled([
      writeSettings(tools, router, hostInterfaceSettings(hostInterface), signal),
      applyRules(tools, router, admitPod(elementsOf(spec)), signal),
      writeSettings(tools, pod.path, podInterfaceSettings(spec.podInterface, withIpv6), signal),
    ]);
    const [inPod, inRouter] = [podEnd(spec), hostEnd(spec)];
    const podAfter = await applyInterface(tools, pod.path, inPod, podBefore, [], signal);
    const routerAfter = await applyInterface(tools, router, inRouter, routerBefore, [], signal);
    await settleInterface(tools, pod.path, inPod, podAfter, signal);
    await settleInterface(tools, router, inRouter, routerAfter, signal);
  } catch (error) {
    if (existing === undefined) {
      await removeAttachment(tools, spec).catch((undo: unknown) => {
        throw new AggregateError([error, undo], `${String(error)}; undoing it failed too: ${String(undo)}`);
      });
    }
    throw error;
  }
  return { hostInterface, mac: macAddress(spec.attachmentId, 'pod'), created: existing === undefined };
};

/** Takes the pod's interface away; fine if it, its pod or the router are gone already. */
export const removeAttachment = async (tools: ToolRunner, place: AttachmentPlace): Promise<void> => {
  checkAttachmentId(place.attachmentId);
  if ((await namedNamespace(place.router)) === undefined) return;
  const router = namedNamespacePath(place.router);
  await allSettled([
    deleteLink(tools, router, hostInterfaceName(place.attachmentId)),
    applyRules(tools, router, dismissPod(elementsOf(place))).catch(ignoreMissing),
  ]);
};

/** The pod's end, as a container runtime is told of it. */
export const podInterface = (spec: AttachmentSpec): MadeInterface => {
  const { name, mtu, routes } = podEnd(spec);
  const viaGateway = routes.flatMap(({ destination, gateway }) =>
    gateway === undefined ? [] : [{ destination, gateway }],
  );
  return {
    name,
    mac: macAddress(spec.attachmentId, 'pod'),
    mtu,
    addresses: spec.addresses.map((address) => {
      const gateway = viaGateway.find((route) => route.gateway.family === address.family)?.gateway;
      return {
        address: formatPrefix(hostPrefix(address)),
        ...(gateway === undefined ? {} : { gateway: formatAddress(gateway) }),
      };
    }),
    routes: viaGateway.map(({ destination, gateway }) => ({
      destination: formatPrefix(destination),
      gateway: formatAddress(gateway),
    })),
  };
};

/** What the pod's end lacks, in sentences. Throws as openNamespace does. */
export const attachmentFaults = async (tools: ToolRunner, spec: AttachmentSpec): Promise<string[]> => {
  await using pod = await openNamespace(tools, spec.podNetns);
  const found = await readNamespace(tools, pod.path);
  const link = found.links.find(({ name }) => name === spec.podInterface);
  if (link === undefined) return [`the interface ${spec.podInterface} is not there`];
  if (link.mac !== macAddress(spec.attachmentId, 'pod'))
    return [`the interface ${spec.podInterface} is another one`];
  return interfaceCommands(podEnd(spec), found).map(
    (command) => `${spec.podInterface} is not as it was made: it wants "ip ${command.join(' ')}"`,
  );
};

const NOTHING: NamespaceState = { links: [], routes: [], local: [], neighbours: [] };

const checkSpec = (spec: AttachmentSpec): void => {
  checkAttachmentId(spec.attachmentId);
  checkInterfaceName(spec.podInterface);
  if (spec.addresses.length === 0) throw new Vl3Error('invalid-argument', 'an attachment needs an address');
  const has4 = (addresses: readonly Address[]): boolean => addresses.some(({ family }) => family === 4);
  if (has4(spec.addresses) && !has4(spec.gateways)) {
    throw new Vl3Error(
      'invalid-argument',
      'an attachment with an IPv4 address needs an IPv4 gateway address',
    );
  }
  if (!Number.isInteger(spec.mtu) || spec.mtu < 576 || spec.mtu > 65535) {
    throw new Vl3Error('invalid-argument', `an MTU of ${spec.mtu} can't be: use 576 to 65535`);
  }
};

/** The pod's end: gateway on the link, pools behind it, each bearing the pod's own address as source. */
const podEnd = (spec: AttachmentSpec): InterfaceState => {
  const hostMac = macAddress(spec.attachmentId, 'host');
  const source4 = spec.addresses.find(({ family }) => family === 4);
  const source6 = spec.addresses.find(({ family }) => family === 6);
  const gateway4 = spec.gateways.find(({ family }) => family === 4);
  const addresses = spec.addresses.map(host);
  const routes: InterfaceState['routes'][number][] = [];
  const neighbours: InterfaceState['neighbours'][number][] = [];
  if (source4 !== undefined && gateway4 !== undefined) {
    routes.push({ destination: hostPrefix(gateway4), source: source4 });
    for (const pool of spec.pools.filter(({ family }) => family === 4)) {
      routes.push({ destination: pool, gateway: gateway4, source: source4 });
    }
    neighbours.push({ address: gateway4, mac: hostMac, isRouter: false });
  }
  if (source6 !== undefined) {
    addresses.push({ address: podLinkLocal(spec.attachmentId), length: 64 });
    for (const pool of spec.pools.filter(({ family }) => family === 6)) {
      routes.push({ destination: pool, gateway: ROUTER_LINK_LOCAL, source: source6 });
    }
    neighbours.push({ address: ROUTER_LINK_LOCAL, mac: hostMac, isRouter: true });
  }
  return { name: spec.podInterface, mtu: spec.mtu, needsCarrier: true, addresses, routes, neighbours };
};

/** The router's end: fe80::1, and a route to each of the pod's addresses, whose MAC is known beforehand. */
const hostEnd = (spec: AttachmentSpec): InterfaceState => {
  const mac = macAddress(spec.attachmentId, 'pod');
  const withIpv6 = spec.addresses.some(({ family }) => family === 6);
  const reached = withIpv6 ? [...spec.addresses, podLinkLocal(spec.attachmentId)] : spec.addresses;
  return {
    name: hostInterfaceName(spec.attachmentId),
    mtu: spec.mtu,
    needsCarrier: true,
    alias: attachmentAlias(spec.attachmentId),
    addresses: withIpv6 ? [{ address: ROUTER_LINK_LOCAL, length: 64 }] : [],
    routes: spec.addresses.map((address) => ({ destination: hostPrefix(address) })),
    neighbours: reached.map((address) => ({ address, mac, isRouter: false })),
  };
};

const podLinkLocal = (attachmentId: string): Address => linkLocalAddress(macAddress(attachmentId, 'pod'));

const elementsOf = ({ attachmentId, addresses }: AttachmentPlace): string[] => {
  const withIpv6 = addresses.some(({ family }) => family === 6);
  const own = withIpv6 ? [...addresses, podLinkLocal(attachmentId)] : addresses;
  return podElements(hostInterfaceName(attachmentId), own);
};

const createPair = async (
  tools: ToolRunner,
  spec: AttachmentSpec,
  router: string,
  podPath: string,
  signal: AbortSignal | undefined,
): Promise<void> => {
  const name = hostInterfaceName(spec.attachmentId);
  const mtu = String(spec.mtu);
  const create = [
    ...['link', 'add', 'name', name, 'address', macAddress(spec.attachmentId, 'host'), 'mtu', mtu],
    ...['type', 'veth'],
    ...['peer', 'name', spec.podInterface, 'address', macAddress(spec.attachmentId, 'pod'), 'mtu', mtu],
    ...['netns', podPath],
  ];
  const commands = [create, ['link', 'set', 'dev', name, 'up']];
  try {
    await applyCommands(tools, router, commands, signal);
  } catch (error) {
    if (!(error instanceof ToolFailure) || !/File exists/.test(error.output)) throw error;
    // A host end whose other end is not in this pod is left over from another life of the attachment.
    const left = await readHostInterface(tools, router, name, signal);
    if (left.links.length === 0) throw taken(spec, error);
    await deleteLink(tools, router, name);
    await applyCommands(tools, router, commands, signal);
  }
};

const readHostInterface = (
  tools: ToolRunner,
  router: string,
  name: string,
  signal: AbortSignal | undefined,
): Promise<NamespaceState> =>
  readNamespace(tools, router, name, signal).catch((error: unknown) => {
    if (error instanceof ToolFailure && isMissing(error)) return NOTHING;
    throw error;
  });

/** The pod's interface is ours only when it and the attachment's host interface are each other's ends. */
const refuseForeign = (spec: AttachmentSpec, inPod: Link, inRouter: Link | undefined): void => {
  const isOurs =
    inRouter !== undefined &&
    inPod.kind === 'veth' &&
    inPod.mac === macAddress(spec.attachmentId, 'pod') &&
    inPod.peerIndex === inRouter.index &&
    inRouter.peerIndex === inPod.index;
  if (!isOurs) throw taken(spec);
};

const taken = (spec: AttachmentSpec, cause?: unknown): Vl3Error =>
  new Vl3Error(
    'already-exists',
    `the pod already has an interface "${spec.podInterface}" that is not this attachment's: choose another name with --interface`,
    cause === undefined ? undefined : { cause },
  );

const deleteLink = (tools: ToolRunner, router: string, name: string): Promise<void> =>
  applyCommands(tools, router, [['link', 'delete', 'dev', name]]).catch(ignoreMissing);

const isMissing = (failure: ToolFailure): boolean =>
  /Cannot find device|does not exist|No such (file|device)/.test(failure.output);

const ignoreMissing = (error: unknown): void => {
  if (!(error instanceof ToolFailure) || !isMissing(error)) throw error;
};

/** Waits for all, also past a failure, so that an undo meets no step that is still running. */
const allSettled = async (steps: readonly Promise<unknown>[]): Promise<void> => {
  for (const result of await Promise.allSettled(steps)) if (result.status === 'rejected') throw result.reason;
};
