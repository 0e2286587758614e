// Why packets and messages were dropped: a closed list of reasons and a count of each. A drop is never an exception
// and never silent.

const DROP_REASONS = [
  // Outbound.
  'malformed-packet',
  'no-peer',
  'no-endpoint',
  'staged-overflow',
  'handshake-given-up',
  // Inbound, transport data.
  'malformed-message',
  'unknown-index',
  'keypair-expired',
  'unauthentic',
  'replayed-counter',
  'wrong-source',
  'congested',
  // Inbound, handshakes.
  'bad-mac1',
  'unknown-peer',
  'bad-initiation',
  'replayed-initiation',
  'flooded-initiation',
  'bad-response',
  'bad-cookie',
  // Under load: answered by a cookie, or too many from one address.
  'cookie-required',
  'rate-limited',
] as const;

export type DropReason = (typeof DROP_REASONS)[number];

export class Drops {
  readonly #counts = new Map<DropReason, number>();

  count(reason: DropReason): void {
    this.#counts.set(reason, this.of(reason) + 1);
  }

  of(reason: DropReason): number {
    return this.#counts.get(reason) ?? 0;
  }

  /** The reasons that occurred. */
  entries(): [DropReason, number][] {
    return DROP_REASONS.flatMap((reason) => (this.of(reason) > 0 ? [[reason, this.of(reason)]] : []));
  }
}
