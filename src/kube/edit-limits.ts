// How often what people edit is followed. Each change of an attachment is told to the registry and from there to every node,
// so whoever edits a pod in a loop gets what he wrote last, late, and takes nothing from other pods of the node.

import type { Action } from '../../native-free/kube/reconcile-pods.ts';
import { TokenBuckets } from '../../native-free/token-buckets.ts';

/** All that a pod may ask for, at once. */
const ATTACHED = { perSecond: 1 / 5, burst: 64 };
/** Of a pod's labels, and of what it shows: the latter somebody else may write, too. */
const WRITTEN = { perSecond: 1 / 5, burst: 16 };
/** A full node that starts, or whose namespaces are edited. */
const OF_NODE = { perSecond: 5, burst: 1024 };

export class EditLimits {
  readonly #attached = new TokenBuckets(ATTACHED);
  readonly #written = new TokenBuckets(WRITTEN);
  readonly #ofNode = new TokenBuckets(OF_NODE);

  /** Whether it may be begun now; then it counts. What takes a pod off a network always may. */
  may(action: Exclude<Action, { kind: 'warn' }>, now: number): boolean {
    const ofPod = this.#limitsOf(action);
    if (ofPod === undefined) return true;
    const [buckets, name] = ofPod;
    return this.#ofNode.has('', now) && buckets.take(name, now) && this.#ofNode.take('', now);
  }

  #limitsOf(action: Exclude<Action, { kind: 'warn' }>): [TokenBuckets, string] | undefined {
    if (action.kind === 'attach') return [this.#attached, action.pod.uid];
    if (action.kind === 'relabel') return [this.#written, action.id];
    if (action.kind === 'show') return [this.#written, action.pod.uid];
    return undefined;
  }
}
