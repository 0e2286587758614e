// Which peers packets are sent to, and which are withdrawn: their addresses answer "unreachable" at once, instead of
// swallowing packets. Registry and data path decide together. Only an explicit "not alive" raises a doubt; the peer is
// then called, and is withdrawn when it has been silent for long and does not answer. A registry that is gone withdraws
// nobody, and any authenticated packet, or "alive", brings a peer back. Times are milliseconds on one monotonic clock.

export interface ReachabilityFacts {
  readonly peer: string;
  /** As the registry last said; undefined: it has said nothing of this peer. */
  readonly alive: boolean | undefined;
  /** When the last authenticated packet of any kind came from it; 0: never. */
  readonly heardAt: number;
}

export interface ReachabilityStep {
  readonly withdraw: readonly string[];
  readonly restore: readonly string[];
  /** To be sent a handshake initiation. */
  readonly call: readonly string[];
}

/** A peer that is silent for less is not withdrawn, whatever the registry says. */
export const SILENCE_MS = 10_000;
/** A peer that is doubted has this long to answer. */
export const ANSWER_MS = 5_000;
/** A withdrawn peer is called again after this long, and up to as long again. */
export const CALL_AGAIN_MS = 5_000;

interface Doubt {
  readonly since: number;
  /** Undefined: it is only doubted. */
  withdrawnAt: number | undefined;
  callAt: number;
}

export class Reachability {
  /** 0 to 1. */
  readonly #random: () => number;
  readonly #doubts = new Map<string, Doubt>();

  constructor(random: () => number) {
    this.#random = random;
  }

  isWithdrawn(peer: string): boolean {
    return this.#doubts.get(peer)?.withdrawnAt !== undefined;
  }

  /** Whether somebody is withdrawn, or may be soon: then the next step is due at once and not in a while. */
  get isBusy(): boolean {
    return this.#doubts.size > 0;
  }

  /** All peers as they are now. `registryAnswers`: what it said last is what it would say now. */
  step(peers: readonly ReachabilityFacts[], registryAnswers: boolean, now: number): ReachabilityStep {
    const withdraw: string[] = [];
    const restore: string[] = [];
    const call: string[] = [];
    const present = new Set(peers.map(({ peer }) => peer));
    for (const [peer, { withdrawnAt }] of this.#doubts) {
      if (present.has(peer)) continue;
      this.#doubts.delete(peer);
      if (withdrawnAt !== undefined) restore.push(peer);
    }
    for (const facts of peers) {
      const { peer } = facts;
      const doubt = this.#doubts.get(peer);
      if (doubt === undefined) {
        if (!registryAnswers || facts.alive !== false || isHeard(facts, now - ANSWER_MS)) continue;
        this.#doubts.set(peer, { since: now, withdrawnAt: undefined, callAt: this.#nextCall(now) });
        call.push(peer);
        continue;
      }
      const hasReturned = isHeard(facts, doubt.withdrawnAt ?? doubt.since);
      // While the registry is gone a doubt rests, and who is withdrawn stays so.
      if (facts.alive !== false || hasReturned || (!registryAnswers && doubt.withdrawnAt === undefined)) {
        this.#doubts.delete(peer);
        if (doubt.withdrawnAt !== undefined) restore.push(peer);
        continue;
      }
      if (
        doubt.withdrawnAt === undefined &&
        now - doubt.since >= ANSWER_MS &&
        !isHeard(facts, now - SILENCE_MS)
      ) {
        doubt.withdrawnAt = now;
        withdraw.push(peer);
      }
      if (now < doubt.callAt) continue;
      doubt.callAt = this.#nextCall(now);
      call.push(peer);
    }
    return { withdraw, restore, call };
  }

  #nextCall(now: number): number {
    return now + CALL_AGAIN_MS * (1 + this.#random());
  }
}

const isHeard = ({ heardAt }: ReachabilityFacts, since: number): boolean => heardAt > 0 && heardAt > since;
