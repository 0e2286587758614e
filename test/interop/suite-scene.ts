// The scene of the suite: two hosts on a cable, a device of one maker or the other on each, told of each other by wg. Outside
// 192.0.2.1 and .2, 2001:db8::1 and ::2; inside 10.1.0.1 and 10.2.0.1, fd01::1 and fd02::1.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../lab/host.ts';
import type { Lab } from '../lab/lab.ts';
import { type PingOptions, ping } from '../lab/ping.ts';
import { End, type Maker } from './suite-end.ts';

export type Family = 'v4' | 'v6';
/** The makers of both ends. */
export type Makers = readonly [Maker, Maker];

export const CROSSED: readonly Makers[] = [['vl3', 'wireguard-go']];
/** The last shows that the suite asks nothing but WireGuard. */
export const WITH_CONTROL: readonly Makers[] = [
  ['vl3', 'vl3'],
  ...CROSSED,
  ['wireguard-go', 'vl3'],
  ['wireguard-go', 'wireguard-go'],
];

export const OUTSIDE = [
  { v4: '192.0.2.1', v6: '2001:db8::1' },
  { v4: '192.0.2.2', v6: '2001:db8::2' },
] as const;
export const INSIDE = [
  { v4: '10.1.0.1', v6: 'fd01::1' },
  { v4: '10.2.0.1', v6: 'fd02::1' },
] as const;
export const PORTS = [10001, 10002] as const;

export const NORMAL_MTU = 1420;
/** What a cable of 64 KB leaves after the longest overhead, IPv6 outside. */
export const BIG_MTU = 65535 - 80;

/** How long what should come at once may take on a busy machine. */
export const PATIENCE_MS = 60_000;

export const at = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

export interface Hosts {
  readonly a: Host;
  readonly b: Host;
}

/** Two hosts on a cable that takes packets of 64 KB. */
export const makeHosts = async (lab: Lab, name: string): Promise<Hosts> => {
  const a = await lab.host(`${name}a`);
  const b = await lab.host(`${name}b`);
  await lab.cable(
    { host: a, interface: 'eth0', addresses: [`${OUTSIDE[0].v4}/24`, `${OUTSIDE[0].v6}/64`] },
    { host: b, interface: 'eth0', addresses: [`${OUTSIDE[1].v4}/24`, `${OUTSIDE[1].v6}/64`] },
    { mtu: 65535 },
  );
  return { a, b };
};

const prefixes = (i: 0 | 1): string[] => [`${INSIDE[i].v4}/32`, `${INSIDE[i].v6}/128`];

export interface PairOptions {
  readonly outside?: Family;
  readonly mtu?: number;
  /** Where they find each other; undefined: not told. */
  readonly endpoints?: readonly [string | undefined, string | undefined];
}

/** Two devices that know each other and are up. */
export class Pair implements AsyncDisposable {
  readonly one: End;
  readonly two: End;

  static async start(lab: Lab, hosts: Hosts, makers: Makers, options: PairOptions = {}): Promise<Pair> {
    const ends = await Promise.all([End.start(lab, hosts.a, makers[0]), End.start(lab, hosts.b, makers[1])]);
    const pair = new Pair(...ends);
    const { outside = 'v4', mtu = NORMAL_MTU } = options;
    const endpoints = options.endpoints ?? [
      at(OUTSIDE[0][outside], PORTS[0]),
      at(OUTSIDE[1][outside], PORTS[1]),
    ];
    await pair.one.setconf(pair.config(0, endpoints[1]));
    await pair.two.setconf(pair.config(1, endpoints[0]));
    await pair.one.up(prefixes(0), prefixes(1), mtu);
    await pair.two.up(prefixes(1), prefixes(0), mtu);
    return pair;
  }

  private constructor(one: End, two: End) {
    this.one = one;
    this.two = two;
  }

  /** The configuration of an end as wg reads it. */
  config(i: 0 | 1, endpoint?: string): string {
    const [own, far] = i === 0 ? [this.one, this.two] : [this.two, this.one];
    return [
      '[Interface]',
      `PrivateKey = ${own.keys.privateKey}`,
      `ListenPort = ${PORTS[i]}`,
      '[Peer]',
      `PublicKey = ${far.keys.publicKey}`,
      `AllowedIPs = ${prefixes(i === 0 ? 1 : 0).join(', ')}`,
      ...(endpoint === undefined ? [] : [`Endpoint = ${endpoint}`]),
      '',
    ].join('\n');
  }

  /** The far end's inside address as pinged from end `i`. */
  async ping(i: 0 | 1, family: Family = 'v4', options: PingOptions = {}): Promise<number> {
    const from = i === 0 ? this.one : this.two;
    const { received } = await ping(from.inside, INSIDE[i === 0 ? 1 : 0][family], { wait: 2, ...options });
    return received;
  }

  /** Resolves once an answer came; the machine may be busy, and a handshake is repeated after 5 s only. */
  async reaches(i: 0 | 1, family: Family = 'v4'): Promise<void> {
    await until(
      () => this.ping(i, family),
      (received) => received === 1,
      `${i === 0 ? this.one.maker : this.two.maker} does not reach the other`,
    );
  }

  /** Both ways, both families. */
  async isWhole(): Promise<void> {
    for (const i of [0, 1] as const)
      for (const family of ['v4', 'v6'] as const) await this.reaches(i, family);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.one.stop(), this.two.stop()]);
  }
}

/** Asks until it is so. */
export const until = async <T>(
  ask: () => Promise<T>,
  isSo: (answer: T) => boolean,
  otherwise = 'still not so',
): Promise<T> => {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    if (performance.now() > deadline) throw new Error(`${otherwise}: ${JSON.stringify(answer)}`);
    await sleep(50);
  }
};

/** Counts what reaches a host by an interface from an inside address; `count` says how many packets so far. */
export class Arrivals {
  readonly #host: Host;
  readonly #table: string;

  static async of(host: Host, iface: string, source: string): Promise<Arrivals> {
    made += 1;
    const arrivals = new Arrivals(host, `arrivals${made}`);
    const match = `iifname "${iface}" ${source.includes(':') ? 'ip6' : 'ip'} saddr ${source} counter`;
    await host.nft(
      `table inet ${arrivals.#table} {\nchain c {\ntype filter hook prerouting priority 0\n${match}\n}\n}\n`,
    );
    return arrivals;
  }

  private constructor(host: Host, table: string) {
    this.#host = host;
    this.#table = table;
  }

  async count(): Promise<number> {
    const text = await this.#host.run(['nft', 'list', 'table', 'inet', this.#table]);
    return Number(/counter packets (\d+)/.exec(text)?.[1]);
  }
}

let made = 0;
