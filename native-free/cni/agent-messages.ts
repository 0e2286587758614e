// What the plugin asks the agent over its local API, and what it is answered: plain JSON. The agent checks requests where
// they arrive (src/cni/requests.ts); the plugin trusts answers, which come over a socket of root's.

import type { Asked } from '../kube/asked.ts';
import type { ContainerAttachment, PodName } from './call.ts';
import type { MadeInterface } from './result.ts';

/** Who an attachment was made for: by the runtime's names, within one conflist's network. */
export interface Owner extends ContainerAttachment {
  readonly cniNetwork: string;
}

/** Where what is asked for stands. "configuration": in the plugin's entry of the conflist. */
export interface Wanted extends Omit<Asked, 'by'> {
  readonly by: Asked['by'] | 'configuration';
}

export interface AddRequest {
  readonly owner: Owner;
  readonly netns: string;
  readonly pod?: PodName;
  readonly wanted: Wanted;
  readonly waitMs: number;
}
export interface AddAnswer {
  readonly interfaces: readonly MadeInterface[];
}

export type CheckRequest = Omit<AddRequest, 'waitMs'>;
/** In sentences; none: all is as it was made. */
export interface CheckAnswer {
  readonly faults: readonly string[];
}

export interface GcRequest {
  readonly cniNetwork: string;
  readonly valid: readonly ContainerAttachment[];
}

export const PATHS = {
  add: '/v1/cni/add',
  check: '/v1/cni/check',
  del: '/v1/cni/del',
  gc: '/v1/cni/gc',
  status: '/v1/cni/status',
} as const;
