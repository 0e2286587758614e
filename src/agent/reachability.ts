// The peers of one network that are not there: their prefixes are made unreachable in the router namespace, so that pods
// are told at once, while the peers stay configured and are called now and then. Who they are is decided in
// native-free/reconcile/reachability.ts.

import type { Logger } from 'pino';
import type { Prefix } from '../../native-free/ipam/prefix.ts';
import { Reachability } from '../../native-free/reconcile/reachability.ts';
import type { Tunnel } from '../device/tunnel.ts';
import type { Peers } from './peers.ts';
import type { Router } from './router.ts';

/** How often peers are looked at while none is doubted; else at every tick. */
const LOOK_MS = 1_000;
/** Routes that could not be set are tried again after this long. */
const RETRY_MS = 5_000;

export interface PeerReachabilityDeps {
  readonly network: string;
  readonly peers: Peers;
  readonly tunnel: Tunnel;
  readonly router: Router;
  /** As the registry last said of a node; undefined: nothing. */
  readonly liveness: (node: string) => boolean | undefined;
  readonly registryAnswers: () => boolean;
  readonly now: () => number;
  readonly logger: Logger;
}

export class PeerReachability {
  readonly #deps: PeerReachabilityDeps;
  readonly #reachability = new Reachability(Math.random);
  #lookAt = 0;
  #isApplying = false;
  #isStale = false;
  #applyAt = 0;

  constructor(deps: PeerReachabilityDeps) {
    this.#deps = deps;
  }

  isWithdrawn(peer: string): boolean {
    return this.#reachability.isWithdrawn(peer);
  }

  /** What the peers hold that are not there. */
  get prefixes(): Prefix[] {
    return this.#deps.peers.all.flatMap(({ desired, id }) => (this.isWithdrawn(id) ? desired.prefixes : []));
  }

  /** To be called several times a second. */
  tick(): void {
    const { network, peers, tunnel, liveness, registryAnswers, now, logger } = this.#deps;
    const at = now();
    if (this.#isStale && at >= this.#applyAt) void this.#apply();
    if (at < this.#lookAt && !this.#reachability.isBusy) return;
    this.#lookAt = at + LOOK_MS;
    const all = peers.all;
    const facts = all.map(({ desired, id }) => ({
      peer: id,
      alive: liveness(desired.node),
      heardAt: Math.max(tunnel.activity(id)?.receivedAt ?? 0, tunnel.status(id)?.lastHandshake?.at ?? 0),
    }));
    const { withdraw, restore, call } = this.#reachability.step(facts, registryAnswers(), at);
    for (const id of call) tunnel.initiate(id);
    const changes = [...withdraw.map((id) => [id, 'withdrawn']), ...restore.map((id) => [id, 'restored'])];
    for (const [id, change] of changes) {
      const node = all.find((one) => one.id === id)?.desired.node;
      logger.info({ network, peer: node, change }, 'peer reachability changed');
    }
    if (changes.length > 0) void this.#apply();
  }

  /** One at a time; what changes meanwhile is applied after it. */
  async #apply(): Promise<void> {
    const { network, router, now, logger } = this.#deps;
    this.#isStale = true;
    if (this.#isApplying) return;
    this.#isApplying = true;
    try {
      while (this.#isStale) {
        this.#isStale = false;
        await router.setUnreachable();
      }
    } catch (error) {
      this.#isStale = true;
      this.#applyAt = now() + RETRY_MS;
      logger.warn({ err: error, network }, 'routes of peers that are not there could not be set');
    } finally {
      this.#isApplying = false;
    }
  }
}
