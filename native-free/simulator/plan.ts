// What one seed decides before anything runs: which machines there are and where, which networks, and every step of the
// workload and the faults, with its time. Plain data, so that a failing plan can be printed, run again and made smaller.

import type { Weather } from './internet.ts';
import type { NatKind } from './nat.ts';
import type { PaceName } from './pace.ts';

export interface NodePlan {
  readonly name: string;
  /** The site whose NAT it is behind; undefined: on the open internet. */
  readonly site: number | undefined;
  /** It is the partner's. */
  readonly isForeign?: boolean;
  /** It attaches what it likes, whatever is decided. */
  readonly isRogue?: boolean;
}

/** What a rule selects by. */
export interface RulePlan {
  readonly from: 'home' | 'partner';
  readonly labels?: Readonly<Record<string, string>>;
  readonly workload?: string;
  readonly isDryRun?: boolean;
}

export type Action =
  // --- the workload
  | { readonly kind: 'start-pod'; readonly pod: string; readonly node: string; readonly networks: string[] }
  | { readonly kind: 'attach' | 'detach'; readonly pod: string; readonly network: string }
  /** Without a goodbye its namespace just goes. */
  | { readonly kind: 'stop-pod'; readonly pod: string; readonly saysGoodbye: boolean }
  | { readonly kind: 'label'; readonly pod: string; readonly labels: Readonly<Record<string, string>> }
  // --- faults
  | { readonly kind: 'kill-agent'; readonly node: string }
  /** Dies at a write or an effect, after `points` more. */
  | { readonly kind: 'crash-agent' | 'crash-registry'; readonly node: string; readonly points: number }
  | { readonly kind: 'halt-machine'; readonly node: string; readonly forMs: number }
  /** Goes down and never comes back. */
  | { readonly kind: 'lose-machine'; readonly node: string }
  /** The agent's process is stopped, or its machine sleeps: timers fire late, CLOCK_BOOTTIME goes on. */
  | { readonly kind: 'stop-agent' | 'suspend-machine'; readonly node: string; readonly forMs: number }
  | { readonly kind: 'kill-registry'; readonly forMs: number }
  | {
      readonly kind: 'partition';
      readonly from: string[];
      readonly to: string[];
      readonly isOneWay: boolean;
      readonly forMs: number;
    }
  /** Only between these machines and the registry. */
  | {
      readonly kind: 'cut-registry';
      readonly nodes: string[];
      readonly isOneWay: boolean;
      readonly forMs: number;
    }
  | { readonly kind: 'weather'; readonly weather: Weather; readonly forMs: number }
  /** All mappings go, and with `address` the public address changes too. */
  | { readonly kind: 'rebind-nat'; readonly site: number; readonly address: boolean }
  | { readonly kind: 'move'; readonly node: string; readonly site: number | undefined }
  | { readonly kind: 'fill-disk'; readonly node: string; readonly forMs: number }
  | { readonly kind: 'set-clock'; readonly node: string; readonly aheadMs: number }
  /** The wall clock is far off, and then right again. */
  | { readonly kind: 'jump-clock'; readonly node: string; readonly aheadMs: number; readonly forMs: number }
  | { readonly kind: 'break-streams' }
  | { readonly kind: 'shrink-mtu'; readonly node: string; readonly mtu: number; readonly forMs: number }
  /** Somebody beside the path repeats and forges datagrams. */
  | { readonly kind: 'attack'; readonly forMs: number }
  /** Handshakes in bursts, under true and false addresses. */
  | { readonly kind: 'flood'; readonly node: string; readonly forMs: number }
  // --- what an admin does
  /** After a while its operator cleans the machine and enrols it anew. */
  | { readonly kind: 'delete-node'; readonly node: string; readonly forMs: number }
  | { readonly kind: 'exclude'; readonly network: string; readonly excluded: string[] }
  /** Somebody enrols with a token that was used. */
  | { readonly kind: 'reuse-token'; readonly node: string }
  | { readonly kind: 'create-rule'; readonly network: string; readonly rule: string; readonly plan: RulePlan }
  | { readonly kind: 'delete-rule'; readonly network: string; readonly rule: string }
  | { readonly kind: 'invite-partner' | 'revoke-partner' }
  /** The partner's, in steps. */
  | { readonly kind: 'rotate-ca' }
  /** The partner's registry. */
  | { readonly kind: 'kill-partner'; readonly forMs: number }
  /** The partner's CA signs for this node of the home's. */
  | { readonly kind: 'pretend'; readonly node: string }
  | { readonly kind: 'back-up-registry' }
  /** By `vl3 registry restore`; as somebody does who copies files; and with nothing at all. */
  | { readonly kind: 'restore-registry' | 'roll-back-registry' | 'empty-registry' };

export type Step = Action & { readonly at: number };

export interface Plan {
  readonly seed: string;
  readonly pace: PaceName;
  /** How long a registry may be gone: leases and SVIDs last a sixth longer. */
  readonly outageBudgetMs: number;
  readonly usesToyPrimitives: boolean;
  readonly nodes: readonly NodePlan[];
  readonly sites: readonly NatKind[];
  readonly networks: readonly string[];
  /** By time. */
  readonly steps: readonly Step[];
}

export interface PlanOptions {
  readonly steps: number;
  /** How many machines at least and at most. */
  readonly nodes: readonly [number, number];
  readonly usesToyPrimitives: boolean;
  /** Default: lively. */
  readonly pace?: PaceName;
}

export const REGISTRY = 'registry';

/** When the last fault that a step brings is over. */
export const endOf = (step: Step): number => step.at + ('forMs' in step ? step.forMs : 0);
