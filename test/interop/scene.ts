// The scene of the interoperation tests: a vl3 device and Debian's wireguard-go, each in a host of its own, joined by
// a cable with IPv4 and IPv6. Inside, vl3 has 10.1.0.1 and fd01::1, the stock device 10.2.0.1 and fd02::1.

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../lab/host.ts';
import type { Lab } from '../lab/lab.ts';
import { WireguardGo, wireguardKeys } from '../lab/wireguard-go.ts';
import { Vl3Device } from './vl3-device.ts';

export type Side = 'vl3' | 'stock';
export type Family = 'v4' | 'v6';

export const OUTSIDE = {
  vl3: { v4: '192.0.2.1', v6: '2001:db8::1' },
  stock: { v4: '192.0.2.2', v6: '2001:db8::2' },
} as const;
export const INSIDE = {
  vl3: { v4: '10.1.0.1', v6: 'fd01::1' },
  stock: { v4: '10.2.0.1', v6: 'fd02::1' },
} as const;
export const PORTS = { vl3: 51820, stock: 51821 } as const;

export const other = (side: Side): Side => (side === 'vl3' ? 'stock' : 'vl3');

export interface Hosts {
  readonly vl3: Host;
  readonly stock: Host;
}

export interface PairOptions {
  readonly outside?: Family;
  /** Who is told the other's endpoint, and so can speak first; by default both. */
  readonly initiators?: readonly Side[];
  /** By default the same one on both sides, or none. */
  readonly presharedKey?: string | { readonly vl3: string; readonly stock: string };
  readonly keepaliveSeconds?: { readonly vl3?: number; readonly stock?: number };
}

export const makeHosts = async (lab: Lab, name = ''): Promise<Hosts> => {
  const vl3 = await lab.host(`${name}vl3`);
  const stock = await lab.host(`${name}stock`);
  const addresses = (side: Side): string[] => [`${OUTSIDE[side].v4}/24`, `${OUTSIDE[side].v6}/64`];
  await lab.cable(
    { host: vl3, interface: 'eth0', addresses: addresses('vl3') },
    { host: stock, interface: 'eth0', addresses: addresses('stock') },
  );
  return { vl3, stock };
};

export const presharedKey = (): string => randomBytes(32).toString('base64');

/** A vl3 device and a stock one that know each other. */
export class Pair implements AsyncDisposable {
  readonly hosts: Hosts;
  readonly keys = { vl3: wireguardKeys(), stock: wireguardKeys() };
  readonly #lab: Lab;
  readonly #options: PairOptions;
  #vl3: Vl3Device | undefined;
  #stock: WireguardGo | undefined;

  static async start(lab: Lab, hosts: Hosts, options: PairOptions = {}): Promise<Pair> {
    const pair = new Pair(lab, hosts, options);
    // Who speaks as soon as it is up comes last, so that its first word is heard.
    if (options.keepaliveSeconds?.vl3 === undefined) await pair.startVl3();
    await pair.startStock();
    if (options.keepaliveSeconds?.vl3 !== undefined) await pair.startVl3();
    return pair;
  }

  private constructor(lab: Lab, hosts: Hosts, options: PairOptions) {
    this.#lab = lab;
    this.hosts = hosts;
    this.#options = options;
  }

  get vl3(): Vl3Device {
    if (this.#vl3 === undefined) throw new Error('vl3 does not run');
    return this.#vl3;
  }

  get stock(): WireguardGo {
    if (this.#stock === undefined) throw new Error('the stock device does not run');
    return this.#stock;
  }

  /** The other side as `side` knows it. */
  #peer(side: Side) {
    const far = other(side);
    const {
      outside = 'v4',
      initiators = ['vl3', 'stock'],
      presharedKey: psk,
      keepaliveSeconds,
    } = this.#options;
    const keepalive = keepaliveSeconds?.[side];
    const preshared = typeof psk === 'object' ? psk[side] : psk;
    return {
      publicKey: this.keys[far].publicKey,
      allowedIps: [`${INSIDE[far].v4}/32`, `${INSIDE[far].v6}/128`],
      ...(initiators.includes(side)
        ? { endpoint: { address: OUTSIDE[far][outside], port: PORTS[far] } }
        : {}),
      ...(preshared === undefined ? {} : { presharedKey: preshared }),
      ...(keepalive === undefined ? {} : { keepaliveSeconds: keepalive }),
    };
  }

  get #inside() {
    const of = (side: Side): string[] => [`${INSIDE[side].v4}/32`, `${INSIDE[side].v6}/128`];
    return { vl3: of('vl3'), stock: of('stock') };
  }

  async startVl3(): Promise<void> {
    this.#vl3 = await Vl3Device.start(this.#lab, this.hosts.vl3, {
      keys: this.keys.vl3,
      listenPort: PORTS.vl3,
      addresses: this.#inside.vl3,
      peers: [this.#peer('vl3')],
    });
  }

  async startStock(): Promise<void> {
    const { endpoint, ...peer } = this.#peer('stock');
    const bracketed = endpoint?.address.includes(':') ? `[${endpoint.address}]` : endpoint?.address;
    this.#stock = await WireguardGo.start(this.#lab, this.hosts.stock, {
      keys: this.keys.stock,
      listenPort: PORTS.stock,
      addresses: this.#inside.stock,
      peers: [{ ...peer, ...(endpoint === undefined ? {} : { endpoint: `${bracketed}:${endpoint.port}` }) }],
    });
  }

  /** Changes vl3's idea of its peer. */
  async changeVl3Peer(change: { presharedKey?: string }): Promise<void> {
    await this.vl3.setPeer({ ...this.#peer('vl3'), ...change });
  }

  /** What vl3 knows of its peer. */
  async seenByVl3() {
    const { peers, counts } = await this.vl3.status();
    const [peer] = peers;
    if (peer === undefined) throw new Error('vl3 has no peer');
    return { ...peer, counts };
  }

  /** What the stock device knows of vl3. */
  async seenByStock(): Promise<{
    endpoint: string;
    lastHandshake: number;
    rxBytes: number;
    txBytes: number;
  }> {
    const [, peer = []] = await this.stock.dump();
    const [, , endpoint = '', , lastHandshake, rxBytes, txBytes] = peer;
    return {
      endpoint,
      lastHandshake: Number(lastHandshake),
      rxBytes: Number(rxBytes),
      txBytes: Number(txBytes),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#vl3?.stop(), this.#stock?.stop()]);
  }
}

/** Asks again and again until it is so; then the test goes on, else it fails with the last answer. */
export const until = async <T>(
  ask: () => Promise<T>,
  isSo: (answer: T) => boolean,
  tries = 200,
): Promise<T> => {
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    tries -= 1;
    if (tries === 0) throw new Error(`still not so: ${JSON.stringify(answer)}`);
    await sleep(50);
  }
};
