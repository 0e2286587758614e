// The steps of the suite, each on a pair that is whole and leaves it so. None asks how long anything takes.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { iperf3 } from '../lab/iperf3.ts';
import { ping } from '../lab/ping.ts';
import { wireguardKeys } from '../lab/wireguard-go.ts';
import type { End } from './suite-end.ts';
import { Arrivals, at, INSIDE, OUTSIDE, type Pair, PORTS, until } from './suite-scene.ts';

const FAMILIES = ['v4', 'v6'] as const;
const SIDES = [0, 1] as const;

/** Both ends with which is the other. */
const ways = (pair: Pair): readonly (readonly [End, End, 0 | 1])[] => [
  [pair.one, pair.two, 0],
  [pair.two, pair.one, 1],
];

export const flood = async (pair: Pair, count: number): Promise<void> => {
  for (const i of SIDES)
    for (const family of FAMILIES)
      expect(await pair.ping(i, family, { count, interval: 0.002, wait: 10 })).toBe(count);
};

export const streams = async (pair: Pair, seconds: number): Promise<void> => {
  const [a, b] = [pair.one.inside, pair.two.inside];
  for (const family of FAMILIES) {
    for (const reverse of [false, true]) {
      const tcp = await iperf3(a, b, INSIDE[1][family], { seconds, reverse });
      expect(tcp.bytes).toBeGreaterThan(1_000_000);
    }
    const udp = { bitsPerSecond: 10_000_000 };
    const { bytes, lostPercent } = await iperf3(a, b, INSIDE[1][family], { seconds, udp });
    expect(bytes).toBeGreaterThan(100_000);
    expect(lostPercent).toBeLessThan(50);
  }
};

export const saveAndSet = async (pair: Pair): Promise<void> => {
  for (const [end] of ways(pair)) {
    const before = await end.wg('showconf');
    await end.setconf(before);
    expect(await end.wg('showconf')).toBe(before);
  }
  await pair.isWhole();
};

/** Pings from end `i`, after `first` each time, until the other end sees it at `endpoint`, then back. */
const isSeenAt = async (
  pair: Pair,
  i: 0 | 1,
  endpoint: string,
  first = async (): Promise<void> => undefined,
): Promise<void> => {
  const [end, other] = i === 0 ? [pair.one, pair.two] : [pair.two, pair.one];
  const seen = async (): Promise<string> => {
    await first();
    await pair.reaches(i);
    return (await other.peer(end)).endpoint;
  };
  await until(seen, (is) => is === endpoint, `${end.maker} is not seen at ${endpoint}`);
  await pair.reaches(i === 0 ? 1 : 0);
};

export const roamByPort = async (pair: Pair): Promise<void> => {
  for (const [end, other, i] of ways(pair)) {
    const before = (await other.peer(end)).endpoint;
    await end.set('listen-port', '20000');
    await isSeenAt(pair, i, before.replace(/:\d+$/, ':20000'));
    await end.set('listen-port', `${PORTS[i]}`);
    await isSeenAt(pair, i, before);
  }
};

export const roamByAddress = async (pair: Pair): Promise<void> => {
  for (const [end, other, i] of ways(pair)) {
    const own = OUTSIDE[i].v4;
    const j = i === 0 ? 1 : 0;
    await end.setPeer(other, 'endpoint', at(OUTSIDE[j].v4, PORTS[j]));
    await isSeenAt(pair, i, at(own, PORTS[i]));
    await end.host.ip(`address delete ${own}/24 dev eth0`, `address add 192.0.2.77/24 dev eth0`);
    await isSeenAt(pair, i, at('192.0.2.77', PORTS[i]));
    await end.host.ip(`address delete 192.0.2.77/24 dev eth0`, `address add ${own}/24 dev eth0`);
    await isSeenAt(pair, i, at(own, PORTS[i]));
  }
};

export const roamByFamily = async (pair: Pair): Promise<void> => {
  for (const [end, other, i] of ways(pair)) {
    const j = i === 0 ? 1 : 0;
    for (const family of ['v6', 'v4'] as const) {
      // Again, if need be: what the other end had under way makes this one roam back to where that came from.
      const setEndpoint = async (): Promise<void> =>
        await end.setPeer(other, 'endpoint', at(OUTSIDE[j][family], PORTS[j]));
      await isSeenAt(pair, i, at(OUTSIDE[i][family], PORTS[i]), setEndpoint);
    }
  }
};

const foreignOf = (i: 0 | 1, family: 'v4' | 'v6'): string =>
  family === 'v4' ? `10.9.0.${i + 1}` : `fd09::${i + 1}`;
const lengthOf = (family: 'v4' | 'v6'): number => (family === 'v4' ? 32 : 128);

export const cryptoRouting = async (pair: Pair): Promise<void> => {
  for (const [from, to, i] of ways(pair)) {
    for (const family of FAMILIES) {
      const foreign = foreignOf(i, family);
      const length = lengthOf(family);
      const address = `${foreign}/${length} dev ${from.interface}`;
      await from.inside.ip(`address add ${address}${family === 'v6' ? ' nodad' : ''}`);
      const arrivals = await Arrivals.of(to.inside, to.interface, foreign);
      const target = INSIDE[i === 0 ? 1 : 0][family];
      await ping(from.inside, target, { source: foreign, count: 3, wait: 1 });
      // What was sent after it has come: so it is not still on its way.
      await pair.reaches(i, family);
      expect(await arrivals.count()).toBe(0);
      // And what is nobody's is not sent there either.
      const route = `${foreign}/${length} dev ${to.interface}`;
      await to.inside.ip(`route replace ${route}`);
      expect(await ping(to.inside, foreign, { wait: 1 })).toMatchObject({ received: 0 });
      await to.inside.ip(`route delete ${route}`);
      await from.inside.ip(`address delete ${address}`);
    }
  }
};

export const movingAllowedIps = async (pair: Pair): Promise<void> => {
  for (const [from, to, i] of ways(pair)) {
    for (const family of FAMILIES) {
      const foreign = foreignOf(i, family);
      const prefix = `${foreign}/${lengthOf(family)}`;
      const address = `${prefix} dev ${from.interface}`;
      await from.inside.ip(`address add ${address}${family === 'v6' ? ' nodad' : ''}`);
      await to.inside.ip(`route replace ${prefix} dev ${to.interface}`);
      const target = INSIDE[i === 0 ? 1 : 0][family];
      const speak = () => ping(from.inside, target, { source: foreign, count: 2, wait: 1 });
      const arrivals = await Arrivals.of(to.inside, to.interface, foreign);
      const { allowedIps } = await to.peer(from);
      await to.setPeer(from, 'allowed-ips', `${allowedIps},${prefix}`);
      await until(speak, ({ received }) => received > 0);
      const before = await arrivals.count();
      expect(before).toBeGreaterThan(0);
      // Another peer is given it: the first may use it no more, neither way.
      const { publicKey } = wireguardKeys();
      await to.set('peer', publicKey, 'allowed-ips', prefix);
      expect((await to.peer(from)).allowedIps).toBe(allowedIps);
      expect(await speak()).toMatchObject({ received: 0 });
      await pair.reaches(i, family);
      expect(await arrivals.count()).toBe(before);
      await to.set('peer', publicKey, 'remove');
      expect(await speak()).toMatchObject({ received: 0 });
      await to.inside.ip(`route delete ${prefix} dev ${to.interface}`);
      await from.inside.ip(`address delete ${address}`);
    }
  }
};

export const syncconf = async (pair: Pair): Promise<void> => {
  for (const [end, other, i] of ways(pair)) {
    const { lastHandshake } = await end.peer(other);
    expect(lastHandshake).toBeGreaterThan(0);
    const config = await end.wg('showconf');
    const further = wireguardKeys().publicKey;
    await end.wg(
      'syncconf',
      end.file(`${config}\n[Peer]\nPublicKey = ${further}\nAllowedIPs = 10.50.0.0/16\n`),
    );
    expect((await end.peers()).map(({ publicKey }) => publicKey).sort()).toEqual(
      [other.keys.publicKey, further].sort(),
    );
    expect((await end.peer(other)).lastHandshake).toBe(lastHandshake);
    await pair.reaches(i);
    await end.wg('syncconf', end.file(config));
    expect(await end.peers()).toHaveLength(1);
    expect((await end.peer(other)).lastHandshake).toBe(lastHandshake);
    await pair.reaches(i);
  }
};

export const removeAndAdd = async (pair: Pair): Promise<void> => {
  for (const [end, other, i] of ways(pair)) {
    const { endpoint, allowedIps } = await end.peer(other);
    const pings = pair.ping(i, 'v4', { count: 300, interval: 0.02, wait: 5 });
    for (let round = 0; round < 3; round++) {
      await sleep(300);
      await end.setPeer(other, 'remove');
      expect(await end.peers()).toEqual([]);
      await end.setPeer(other, 'endpoint', endpoint, 'allowed-ips', allowedIps);
    }
    await pings;
    await pair.isWhole();
  }
};

export const downAndUp = async (pair: Pair): Promise<void> => {
  for (const [end, other, i] of ways(pair)) {
    const routes = [`${INSIDE[i === 0 ? 1 : 0].v4}/32`, `${INSIDE[i === 0 ? 1 : 0].v6}/128`];
    const { lastHandshake } = await end.peer(other);
    await end.setLink('down');
    // As the kernel's does, it forgets its sessions and answers nobody. wireguard-go of Debian goes on answering.
    if (end.maker === 'vl3')
      await until(
        () => isAnswered(pair, end, other, i === 0 ? 1 : 0),
        (is) => !is,
      );
    await end.up([`${INSIDE[i].v6}/128`], routes);
    await pair.isWhole();
    if (end.maker === 'vl3') expect((await end.peer(other)).lastHandshake).toBeGreaterThan(lastHandshake);
  }
};

/** Whether `end` completes a handshake that `other`, which is `side`, begins anew. */
const isAnswered = async (pair: Pair, end: End, other: End, side: 0 | 1): Promise<boolean> => {
  const { endpoint, allowedIps } = await other.peer(end);
  await other.setPeer(end, 'remove');
  await other.setPeer(end, 'endpoint', endpoint, 'allowed-ips', allowedIps);
  await pair.ping(side, 'v4', { count: 3, wait: 1 });
  return (await other.peer(end)).lastHandshake > 0;
};

export const quiet = async (pair: Pair): Promise<void> => {
  for (const [end] of ways(pair)) {
    expect(end.isRunning).toBe(true);
    if (end.maker === 'vl3') expect(end.output).toBe('');
  }
};
