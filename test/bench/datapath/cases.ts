// What is measured of each contender: one number a case, with its unit and whether more or less of it is better.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { iperf3 } from '../../lab/iperf3.ts';
import { ping } from '../../lab/ping.ts';
import type { Running, SetUp } from './contenders.ts';
import type { Sites, Topology } from './topology.ts';

export interface Scene {
  readonly sites: Sites;
  readonly running: Running;
  readonly seconds: number;
}

export type Better = 'more' | 'less';

export interface Case {
  readonly name: string;
  readonly unit: string;
  readonly better: Better;
  /** Every number that one run of it brings, by the name of the case that it is of. */
  readonly run: (scene: Scene) => Promise<Readonly<Record<string, number>>>;
}

export interface Group {
  readonly name: string;
  readonly topology: Topology;
  readonly setUp: SetUp;
  readonly cases: readonly Case[];
  /** Who cannot do it. */
  readonly without: readonly string[];
}

const CONNECTIONS = fileURLToPath(new URL('./connections.ts', import.meta.url));
const MEGA = 1e6;

interface TcpOptions {
  readonly streams?: number;
  readonly reverse?: boolean;
  readonly family?: 'v4' | 'v6';
}

const tcp = (name: string, options: TcpOptions = {}): Case => ({
  name,
  unit: 'Mbit/s',
  better: 'more',
  run: async ({ sites: [a, b], seconds }) => {
    const { streams = 1, reverse = false, family = 'v4' } = options;
    const result = await iperf3(a.end, b.end, b.inside[family], { seconds, streams, reverse });
    return { [name]: result.bitsPerSecond / MEGA };
  },
});

/** With a ping beside it, and what the tunnel's processes spend. */
const tcpWithCosts: Case = {
  name: 'tcp1',
  unit: 'Mbit/s',
  better: 'more',
  run: async ({ sites: [a, b], running, seconds }) => {
    const before = cpuSeconds(running.pids);
    const [carried, echo] = await Promise.all([
      iperf3(a.end, b.end, b.inside.v4, { seconds }),
      ping(a.end, b.inside.v4, { count: seconds * 40, interval: 0.02 }),
    ]);
    const spent = cpuSeconds(running.pids) - before;
    const costs = { 'cpu-per-gb': spent / (carried.bytes / 1e9), rss: Math.max(...running.pids.map(rssMb)) };
    return {
      tcp1: carried.bitsPerSecond / MEGA,
      ...(echo.rttMs === undefined ? {} : { 'rtt-loaded': echo.rttMs }),
      ...(running.pids.length === 0 ? {} : costs),
    };
  },
};

const rttIdle: Case = {
  name: 'rtt-idle',
  unit: 'ms',
  better: 'less',
  run: async ({ sites: [a, b] }) => {
    await ping(a.end, b.inside.v4, { count: 5, interval: 0.01 });
    const { rttMs } = await ping(a.end, b.inside.v4, { count: 100, interval: 0.01 });
    return rttMs === undefined ? {} : { 'rtt-idle': rttMs };
  },
};

/** `packets`: a second; 0: as many as will go. */
const udp = (
  name: string,
  payload: number,
  packets: number,
  unit: 'lost %' | 'Mbit/s' | 'packets/s',
): Case => ({
  name,
  unit,
  better: unit === 'lost %' ? 'less' : 'more',
  run: async ({ sites: [a, b], seconds }) => {
    const udpOptions = { bitsPerSecond: packets * payload * 8, payload };
    const result = await iperf3(a.end, b.end, b.inside.v4, { seconds, udp: udpOptions });
    const arrived = result.bitsPerSecond * (1 - result.lostPercent / 100);
    if (unit === 'lost %') return { [name]: result.lostPercent };
    return { [name]: unit === 'Mbit/s' ? arrived / MEGA : arrived / 8 / payload };
  },
});

const connections: Case = {
  name: 'connections',
  unit: 'per s',
  better: 'more',
  run: async ({ sites: [a, b], seconds }) => {
    const server = b.end.start([process.execPath, CONNECTIONS, 'serve', b.inside.v4, '7007']);
    try {
      await server.printed(/listening/);
      const command = [process.execPath, CONNECTIONS, 'connect', b.inside.v4, '7007', String(seconds)];
      const answer: unknown = JSON.parse(await a.end.run(command, { timeoutMs: seconds * 1000 + 30_000 }));
      return typeof answer === 'object' && answer !== null && 'perSecond' in answer
        ? { connections: Number(answer.perSecond) }
        : {};
    } finally {
      await server.stop();
    }
  },
};

/** Cases that come out of another's run. */
export const BYPRODUCTS: readonly Omit<Case, 'run'>[] = [
  { name: 'rtt-loaded', unit: 'ms', better: 'less' },
  { name: 'cpu-per-gb', unit: 's/GB', better: 'less' },
  { name: 'rss', unit: 'MB', better: 'less' },
];

const V4: SetUp = { outside: 'v4', strangers: 0 };

export const groups = (isQuick: boolean): Group[] => {
  const bare: Case[] = [rttIdle, tcpWithCosts, tcp('tcp4', { streams: 4 })];
  const rest: Case[] = [
    tcp('tcp16', { streams: 16 }),
    tcp('tcp1-reverse', { reverse: true }),
    udp('udp100-20k', 100, 20_000, 'lost %'),
    udp('udp100-flood', 100, 0, 'packets/s'),
    udp('udp1400', 1372, 0, 'Mbit/s'),
    connections,
  ];
  const all: Group[] = [
    {
      name: 'bare',
      topology: 'bare',
      setUp: V4,
      cases: [...bare, udp('udp100-100k', 100, 100_000, 'lost %'), ...(isQuick ? [] : rest)],
      without: [],
    },
    {
      name: 'pods',
      topology: 'pods',
      setUp: V4,
      cases: [tcp('pods-tcp1'), ...(isQuick ? [] : [tcp('pods-tcp4', { streams: 4 })])],
      without: ['nebula', 'cable'],
    },
  ];
  if (isQuick) return all;
  return [
    ...all,
    {
      name: 'v6',
      topology: 'bare',
      setUp: { outside: 'v6', strangers: 0 },
      cases: [tcp('tcp1-outside-v6'), tcp('tcp1-all-v6', { family: 'v6' })],
      without: ['nebula', 'cable'],
    },
    {
      name: 'peers',
      topology: 'bare',
      setUp: { outside: 'v4', strangers: 4999 },
      cases: [tcp('tcp1-5000-peers')],
      without: ['nebula', 'cable'],
    },
  ];
};

const TICKS_PER_SECOND = 100;

/** User and system time, proc(5) fields 14 and 15. */
const cpuSeconds = (pids: readonly number[]): number => {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
};

const rssMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;
