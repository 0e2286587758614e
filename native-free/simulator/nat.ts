// A NAT as homes and clouds have them (RFC 4787, 5780): port-restricted (one mapping an inner endpoint, and a remote may
// answer only once it was written to) or symmetric (a mapping for each remote). A mapping ends when idle, and all end
// when the NAT rebinds.

import type { Endpoint } from '../device/data-plane.ts';
import type { Random } from './random.ts';

export type NatKind = 'port-restricted' | 'symmetric';

interface Mapping {
  readonly publicPort: number;
  readonly inner: Endpoint;
  /** When each remote was last written to. */
  readonly remotes: Map<string, number>;
  usedAt: number;
}

const IDLE_MS = 60_000;
const FIRST_PORT = 20_000;
const LAST_PORT = 60_000;

export class Nat {
  readonly kind: NatKind;
  readonly #random: Random;
  readonly #byInner = new Map<string, Mapping>();
  readonly #byPort = new Map<number, Mapping>();
  readonly #network: string;
  #addresses = 1;

  /** `network`: the first three numbers of its public addresses. */
  constructor(network: string, kind: NatKind, random: Random) {
    this.#network = network;
    this.kind = kind;
    this.#random = random;
  }

  /** As whom the world sees those behind it. */
  get address(): string {
    return `${this.#network}.${this.#addresses}`;
  }

  get mappings(): number {
    return this.#byPort.size;
  }

  /** As whom the world sees a datagram from `inner` to `remote`. */
  outbound(inner: Endpoint, remote: Endpoint, now: number): Endpoint {
    this.#expire(now);
    const key = this.kind === 'symmetric' ? `${text(inner)} ${text(remote)}` : text(inner);
    let mapping = this.#byInner.get(key);
    if (mapping === undefined) {
      mapping = { publicPort: this.#freePort(), inner, remotes: new Map(), usedAt: now };
      this.#byInner.set(key, mapping);
      this.#byPort.set(mapping.publicPort, mapping);
    }
    mapping.usedAt = now;
    mapping.remotes.set(text(remote), now);
    return { address: this.address, port: mapping.publicPort };
  }

  /** Whom inside a datagram from `remote` to this port is for; undefined: dropped. */
  inbound(port: number, remote: Endpoint, now: number): Endpoint | undefined {
    this.#expire(now);
    const mapping = this.#byPort.get(port);
    if (mapping === undefined || !mapping.remotes.has(text(remote))) return undefined;
    mapping.usedAt = now;
    return mapping.inner;
  }

  /** All mappings go; its provider may give it another address too. */
  rebind(changesAddress: boolean): void {
    if (changesAddress) this.#addresses = (this.#addresses % 250) + 1;
    this.#byInner.clear();
    this.#byPort.clear();
  }

  #expire(now: number): void {
    for (const [key, mapping] of this.#byInner) {
      if (now - mapping.usedAt < IDLE_MS) continue;
      this.#byInner.delete(key);
      this.#byPort.delete(mapping.publicPort);
    }
  }

  #freePort(): number {
    for (;;) {
      const port = this.#random.between(FIRST_PORT, LAST_PORT);
      if (!this.#byPort.has(port)) return port;
    }
  }
}

const text = ({ address, port }: Endpoint): string => `${address}:${port}`;
