// What an agent's process on a simulated machine is given, and what its parts share.

import type { Time } from '../device/tunnel.ts';
import type { LeaseCalls } from '../ipam/lease-calls.ts';
import type { Moment } from '../moment.ts';
import type { Primitives, RandomBytes } from '../noise/primitives.ts';
import type { Port } from '../port/port.ts';
import type { Announcement } from '../reconcile/endpoints.ts';
import type { SeenStore } from '../reconcile/seen-store.ts';
import type { ControlPlane } from './control-plane.ts';
import type { Counters } from './counters.ts';
import type { Documents } from './documents.ts';
import type { Hooks } from './hooks.ts';
import type { Internet } from './internet.ts';
import type { Kernel } from './kernel.ts';
import type { LeaseRenewals } from './lease-renewals.ts';
import type { Pace } from './pace.ts';
import type { Random } from './random.ts';
import type { Timer } from './scheduler.ts';
import type { SimulatedIdentity, SimulatedSigner } from './signer.ts';
import type { SimulatedTrust } from './trust.ts';

/** Its prefix is another's, could not be renewed, or no rule admits it any more. */
export type Withdrawal = 'lost' | 'ended' | 'refused';

export interface AgentDependencies {
  readonly name: string;
  readonly documents: Documents;
  readonly kernel: Kernel;
  readonly internet: Internet;
  /** The line to the registry of the networks. */
  readonly control: ControlPlane;
  /** The line to its own domain's; the same, for a node of the networks' domain. */
  readonly own: ControlPlane;
  /** Of all domains: who has signed what is known by their secrets alone. */
  readonly signers: ReadonlyMap<string, SimulatedSigner>;
  /** Whose node it is. */
  readonly trustDomain: string;
  /** It attaches what it likes, and takes down nothing that is refused. */
  readonly isRogue: boolean;
  readonly primitives: Primitives;
  readonly port: Port;
  readonly random: Random;
  readonly randomBytes: RandomBytes;
  readonly counters: Counters;
  readonly hooks: Hooks;
  readonly pace: Pace;
  /** Of the inside, in bytes. */
  readonly mtu: number;
  readonly udpPort: number;
  /** `now` is CLOCK_BOOTTIME. */
  readonly time: () => Time;
  readonly moment: () => Moment;
  /** The secret of the join token it was started with. */
  readonly token: () => string;
  /** Runs work as part of this process: not at all when it is dead, and it may die of it. */
  readonly enter: (work: () => void) => void;
  /** Since when it could not renew its leases. */
  readonly renewals: LeaseRenewals;
  /** An attachment is taken off whose prefix may not be this node's any more. */
  readonly withdrawn: (network: string, namespace: string, why: Withdrawal) => void;
  readonly later: (delay: number, label: string, work: () => void) => Timer;
  readonly every: (period: number, label: string, work: () => void) => void;
}

/** What the networks of an agent share. */
export interface AgentContext extends AgentDependencies {
  readonly identity: () => SimulatedIdentity;
  /** What the networks' home calls it. */
  readonly key: string;
  readonly trust: SimulatedTrust;
  readonly surroundings: () => Announcement;
  /** The tunnels have to be looked at soon. */
  readonly stir: () => void;
  readonly calls: LeaseCalls;
  readonly seen: SeenStore;
  /** Soon. */
  readonly renewLeases: () => void;
  /** No rule admits this attachment any more. */
  readonly refused: (id: string) => void;
  /** The registry's store is another one than before, or an older copy of it. */
  readonly storeReplaced: () => void;
  /** The clocks that leases are measured by. */
  readonly leaseMoment: () => Moment;
}
