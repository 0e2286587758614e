// How many handshakes an address may ask of a network while the port is under load (whitepaper section 5.3,
// wireguard-go's ratelimiter): a token bucket for each pair of them. For each address alone, a node that restarts with
// many networks would trip its own limit. An IPv6 source is its /64, since it can choose the rest.
//
// A bucket that nobody has asked for long enough is full, as a new one is, so it is forgotten; past a bound the one
// least recently asked is. Whoever owns that many addresses is not stopped by limits for each of them anyway.

import { parseAddress } from '../ipam/prefix.ts';
import { HANDSHAKES_BURST, HANDSHAKES_PER_SECOND } from '../noise/constants.ts';

const MAX_BUCKETS = 4096;
const COST = 1000 / HANDSHAKES_PER_SECOND;
/** A bucket holds time, in milliseconds. */
const FULL = COST * HANDSHAKES_BURST;

interface Bucket {
  tokens: number;
  askedAt: number;
}

export class RateLimiter {
  /** The least recently asked first. */
  readonly #buckets = new Map<string, Bucket>();

  get size(): number {
    return this.#buckets.size;
  }

  /** Whether `address` may have one more handshake with `network`; takes it. */
  allow(network: string, address: string, now: number): boolean {
    this.forgetFull(now);
    const key = `${network} ${sourceOf(address)}`;
    const bucket = this.#buckets.get(key) ?? { tokens: FULL, askedAt: now };
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > MAX_BUCKETS) this.#forgetOldest();
    bucket.tokens = Math.min(FULL, bucket.tokens + now - bucket.askedAt);
    bucket.askedAt = now;
    if (bucket.tokens < COST) return false;
    bucket.tokens -= COST;
    return true;
  }

  /** Forgets the buckets that have filled up. */
  forgetFull(now: number): void {
    for (const [key, { askedAt }] of this.#buckets) {
      if (now - askedAt < FULL) return;
      this.#buckets.delete(key);
    }
  }

  #forgetOldest(): void {
    for (const key of this.#buckets.keys()) {
      this.#buckets.delete(key);
      return;
    }
  }
}

/** An IPv4 address, or the /64 of an IPv6 one, with its zone. */
const sourceOf = (address: string): string => {
  if (!address.includes(':')) return address;
  const [host = '', zone = ''] = address.split('%');
  return `${(parseAddress(host).value >> 64n).toString(16)}::%${zone}`;
};
