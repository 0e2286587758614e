// Problems of pods as Kubernetes' events: each once, and again every ten minutes while it lasts; of many at once some wait.

import type { Pod } from '../../native-free/kube/pod.ts';
import type { Reason } from '../../native-free/kube/reconcile-pods.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { TokenBuckets } from '../../native-free/token-buckets.ts';
import type { KubernetesApi } from './kubernetes-api.ts';

export interface PodEventsDeps {
  readonly api: Pick<KubernetesApi, 'createEvent'>;
  readonly clock: { readonly monotonic: () => number; readonly wall: () => number };
  readonly failed: (error: unknown) => void;
}

const MAX_REASONS = 4096;
const OF_NODE = { perSecond: 2, burst: 20 };
/** A pod whose reason changes all the time. */
const OF_POD = { perSecond: 1 / 60, burst: 8 };

export class PodEvents {
  readonly #deps: PodEventsDeps;
  readonly #reasons = new RepeatedReasons(MAX_REASONS);
  readonly #ofNode = new TokenBuckets(OF_NODE);
  readonly #ofPod = new TokenBuckets(OF_POD);

  constructor(deps: PodEventsDeps) {
    this.#deps = deps;
  }

  /** Says it, unless that was said lately. Never throws. */
  warn({ namespace, name, uid, objectUid }: Pod, reason: Reason, message: string): void {
    const { api, clock, failed } = this.#deps;
    const now = clock.monotonic();
    const key = `${uid} ${reason} ${message}`;
    // What there is no room for now comes with the next look.
    if (!this.#reasons.isDue(key, now)) return;
    if (!this.#ofNode.has('', now) || !this.#ofPod.take(uid, now)) return;
    this.#ofNode.take('', now);
    this.#reasons.take(key, now);
    void api
      .createEvent({ namespace, name, uid: objectUid, reason, message, at: clock.wall() })
      .catch(failed);
  }
}
