// Where tests plant bugs. Each hook is a wrong turn that a real system has taken; without any, everything is as it is.

import type { Endpoint } from '../device/data-plane.ts';
import type { Tunnel } from '../device/tunnel.ts';
import { Allocator, type AllocatorState } from '../ipam/allocator.ts';

export interface Hooks {
  /** The allocator an agent starts with. */
  readonly allocator: (state: AllocatorState) => Allocator;
  /** Sees each transport message before the data plane does. */
  readonly beforeReceive: ((tunnel: Tunnel, datagram: Uint8Array, source: Endpoint) => void) | undefined;
  /** The network on which a packet from a tunnel is delivered. */
  readonly networkOf: (network: string) => string;
  /** Whether the registry answers only when the disk has it. */
  readonly storeSyncs: boolean;
  /** Whether the registry frees a node's prefixes as soon as its heartbeats stay away. */
  readonly livenessFreesPrefixes: boolean;
  /** Whether an agent writes down that it leaves a network, before it asks to. */
  readonly writesLeaving: boolean;
  /** Whether an agent opens a watch again that broke. */
  readonly watchesAgain: boolean;
  /** Whether an agent's periodic work starts only one timer. */
  readonly startsOneTimer: boolean;
}

export const NO_BUGS: Hooks = {
  allocator: (state) => new Allocator(state),
  beforeReceive: undefined,
  networkOf: (network) => network,
  storeSyncs: true,
  livenessFreesPrefixes: false,
  writesLeaving: true,
  watchesAgain: true,
  startsOneTimer: true,
};
