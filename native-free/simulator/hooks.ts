// Where tests plant bugs. Each hook is a wrong turn that a real system has taken; without any, everything is as it is.

import type { Granted } from '../admission/grant-book.ts';
import type { Endpoint } from '../device/data-plane.ts';
import type { Tunnel } from '../device/tunnel.ts';
import { Allocator, type AllocatorState } from '../ipam/allocator.ts';
import type { Prefix } from '../ipam/prefix.ts';
import type { Moment } from '../moment.ts';
import type { DurableStore } from './durable-store.ts';

export interface Hooks {
  /** The allocator an agent starts with. */
  readonly allocator: (state: AllocatorState) => Allocator;
  /** Sees each transport message before the data plane does. */
  readonly beforeReceive: ((tunnel: Tunnel, datagram: Uint8Array, source: Endpoint) => void) | undefined;
  /** The network on which a packet from a tunnel is delivered. */
  readonly networkOf: (network: string) => string;
  /** Whether the registry answers only when the disk has it. */
  readonly storeSyncs: boolean;
  /** Whether the registry frees a node's prefixes 50 ms after its stream has dropped, as Network Service Mesh does. */
  readonly streamFreesPrefixes: boolean;
  /** Whether a join token is used up by its use. */
  readonly usesTokensUp: boolean;
  /** Whether a registry that lost its memory finds out. */
  readonly recovers: boolean;
  /** Does something to the registry's store after each start. */
  readonly afterRegistryStart: ((store: DurableStore) => void) | undefined;
  /** The clocks that an agent measures its leases by. */
  readonly leaseMoment: (moment: Moment) => Moment;
  /** The clocks that a node measures records by. */
  readonly recordMoment: (moment: Moment) => Moment;
  /** Whether a lease is measured from the answer instead of from the request. */
  readonly leasesFromAnswer: boolean;
  /** Whether a peer that a list does not name is taken for one that was deleted. */
  readonly absenceDeletes: boolean;
  /** Whether an agent writes down that it leaves a network, before it asks to. */
  readonly writesLeaving: boolean;
  /** Whether the registry takes any CA's word for any domain. */
  readonly mergesBundles: boolean;
  /** Whether the registry takes away what a partner's nodes had once the federation is over. */
  readonly removesStrays: boolean;
  /** What of its prefixes a peer is let have, by what was granted and what it has. */
  readonly granted: (granted: Granted, node: string, before: readonly Prefix[]) => Granted;
  /** Whether an agent opens a watch again that broke. */
  readonly watchesAgain: boolean;
  /** How long an agent waits before it opens a watch again, of what src has it wait. */
  readonly backoffMs: (ms: number) => number;
  /** Whether an agent's periodic work starts only one timer. */
  readonly startsOneTimer: boolean;
}

export const NO_BUGS: Hooks = {
  allocator: (state) => new Allocator(state),
  beforeReceive: undefined,
  networkOf: (network) => network,
  storeSyncs: true,
  streamFreesPrefixes: false,
  usesTokensUp: true,
  recovers: true,
  afterRegistryStart: undefined,
  leaseMoment: (moment) => moment,
  recordMoment: (moment) => moment,
  leasesFromAnswer: false,
  absenceDeletes: false,
  writesLeaving: true,
  mergesBundles: false,
  removesStrays: true,
  granted: (granted) => granted,
  watchesAgain: true,
  backoffMs: (ms) => ms,
  startsOneTimer: true,
};
