// Which packets belong to flows that send little (RFC 8290 calls them sparse): name lookups, pings, calls of a few kilobytes, the
// first packets of every connection. Their messages are marked, and overtake the others' where they arrive; a flow that sends
// more than a little waits in line like all that do. Decided by a virtual clock for each of some thousand buckets (the generic
// cell rate algorithm): flows that share a bucket share its allowance.

/** Of the outer header: low-latency data, AF22 (RFC 4594, section 4.7), the two bits of ECN left out. */
export const LOW_LATENCY_CLASS = 20 << 2;

const BUCKETS = 4096;
/** What a flow may send for good: 2 Mbit/s. */
const BYTES_A_MS = 250;
/** And at once: 16 KB, a little more than the first flight of a TCP connection. */
const BURST_MS = 64;
/** A flow that sent more waits in line for so long at least, and until it pauses: it must not overtake itself. */
const HOLD_MS = 50;
const PAUSE_MS = 15;

export class SparseFlows {
  /**
   * When, in ms, all that the bucket's flows sent would have left at the rate that they may send at; past a burst from now:
   * they are held.
   */
  readonly #paidAt = new Float64Array(BUCKETS);

  /** Counts `bytes` more of the flow with this hash; whether it is sparse. `now`: monotonic, ms. */
  take(hash: number, bytes: number, now: number): boolean {
    const bucket = hash & (BUCKETS - 1);
    const before = this.#paidAt[bucket] ?? 0;
    const paidAt = (before > now ? before : now) + bytes / BYTES_A_MS;
    const burstEnd = now + BURST_MS;
    if (paidAt <= burstEnd) {
      this.#paidAt[bucket] = paidAt;
      return true;
    }
    const earliest = burstEnd + (before > burstEnd ? PAUSE_MS : HOLD_MS);
    const latest = burstEnd + HOLD_MS;
    this.#paidAt[bucket] = paidAt > latest ? latest : paidAt > earliest ? paidAt : earliest;
    return false;
  }
}
