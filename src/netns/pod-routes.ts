// What a pod already reaches, and whether a network's pools may be added to that. A pool that overlaps a route or an
// address in the pod would take traffic that goes elsewhere today, so it is refused with a sentence.

import { Vl3Error } from '../../native-free/error.ts';
import {
  formatAddress,
  formatPrefix,
  hostPrefix,
  type Prefix,
  prefixesOverlap,
} from '../../native-free/ipam/prefix.ts';
import { type NamespaceState, ROUTE_PROTOCOL, readNamespace } from './ip.ts';
import { openNamespace } from './namespace.ts';
import type { ToolRunner } from './tool.ts';

/** A prefix that is taken, and by what, in words that follow "the pool X overlaps". */
export interface Taken {
  readonly prefix: Prefix;
  readonly by: string;
}

/** The routes (but default ones) and addresses of a namespace, those of the interface `except` left out. */
export const takenPrefixes = (state: NamespaceState, except?: string): Taken[] => {
  const routes = state.routes.flatMap(({ destination, devices, protocol }) => {
    if (destination === undefined || (except !== undefined && devices.includes(except))) return [];
    const on = devices.length === 0 ? '' : ` on interface ${devices.join(', ')}`;
    const text = formatPrefix(destination);
    const by =
      protocol === ROUTE_PROTOCOL
        ? `${text}${on}, which the pod reaches by another vl3 network`
        : `the route ${text}${on} that the pod already has`;
    return [{ prefix: destination, by }];
  });
  const addresses = state.links
    .filter(({ name, loopback }) => name !== except && !loopback)
    .flatMap(({ name, addresses }) =>
      addresses
        .filter(({ global }) => global)
        .map(({ address }) => ({
          prefix: hostPrefix(address),
          by: `the address ${formatAddress(address)} that the pod already has on interface ${name}`,
        })),
    );
  return [...routes, ...addresses];
};

/** What the pod at `path` reaches by routes and addresses of its own. Throws as openNamespace does. */
export const readPodRoutes = async (tools: ToolRunner, path: string, except?: string): Promise<Taken[]> => {
  await using namespace = await openNamespace(tools, path);
  return takenPrefixes(await readNamespace(tools, namespace.path), except);
};

/** Throws Vl3Error('failed-precondition') when a pool overlaps what is taken. */
export const refuseOverlap = (pools: readonly Prefix[], taken: readonly Taken[]): void => {
  for (const pool of pools) {
    const first = taken.find(({ prefix }) => prefixesOverlap(pool, prefix));
    if (first !== undefined) {
      throw new Vl3Error(
        'failed-precondition',
        `the network's pool ${formatPrefix(pool)} overlaps ${first.by}: attach this pod to a network with another pool`,
      );
    }
  }
};
