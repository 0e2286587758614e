// How often what people edit is followed. Each change of an attachment is told to the registry and from there to every node,
// so whoever edits a pod in a loop gets what he wrote last, late: all who do so on a node share what it spares for them, and
// take nothing from a pod that is edited now and then.

import type { Action } from '../../native-free/kube/reconcile-pods.ts';
import { type BucketOptions, TokenBuckets } from '../../native-free/token-buckets.ts';

/** Everybody's: all that a pod may ask for at once, and some. */
const ATTACHED = { perSecond: 1 / 60, burst: 40 };
/** Of a pod's labels, and of what it shows: the latter somebody else may write, too. */
const WRITTEN = { perSecond: 1 / 60, burst: 12 };
/** Who has used that up. */
const BEYOND = { perSecond: 1 / 5, burst: 4 };
const BEYOND_OF_NODE = { perSecond: 5, burst: 50 };

type Limited = Exclude<Action, { kind: 'warn' }>;

export class EditLimits {
  readonly #ofNode = new TokenBuckets(BEYOND_OF_NODE);
  readonly #attached = new PodLimit(ATTACHED, this.#ofNode);
  readonly #written = new PodLimit(WRITTEN, this.#ofNode);

  /** Whether it may be begun now; then it counts. What takes a pod off a network always may. */
  may(action: Limited, now: number): boolean {
    switch (action.kind) {
      case 'attach':
        return this.#attached.take(action.pod.uid, now);
      case 'relabel':
        return this.#written.take(action.id, now);
      case 'show':
        return this.#written.take(action.pod.uid, now);
      default:
        return true;
    }
  }
}

class PodLimit {
  readonly #own: TokenBuckets;
  readonly #beyond = new TokenBuckets(BEYOND);
  readonly #ofNode: TokenBuckets;

  constructor(own: BucketOptions, ofNode: TokenBuckets) {
    this.#own = new TokenBuckets(own);
    this.#ofNode = ofNode;
  }

  take(name: string, now: number): boolean {
    if (this.#own.take(name, now)) return true;
    return this.#ofNode.has('', now) && this.#beyond.take(name, now) && this.#ofNode.take('', now);
  }
}
