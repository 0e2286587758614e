// What TCP gets through a tunnel, what that costs the tunnel, and how long a ping takes meanwhile.

import { iperf3 } from '../../lab/iperf3.ts';
import { ping } from '../../lab/ping.ts';
import type { Ability } from './contenders.ts';
import { benchProgram, numbersOf, type Probe, type Scene } from './probe.ts';
import { cpuSeconds, rssMb } from './process-cost.ts';

const MEGA = 1e6;
const GIGA = 1e9;
/** Of the ping beside a load. */
const PING_INTERVAL = 0.02;

interface TcpOptions {
  readonly streams?: number;
  readonly reverse?: boolean;
  readonly family?: 'v4' | 'v6';
  readonly needs?: readonly Ability[];
  readonly withPing?: boolean;
}

/** Throughput; CPU seconds per GB and resident memory of the tunnel's processes. */
export const tcp = (name: string, options: TcpOptions = {}): Probe => {
  const { streams = 1, reverse = false, family = 'v4', needs = [], withPing = false } = options;
  const rttRow = { name: `${name}-rtt`, unit: 'ms', better: 'less' } as const;
  return {
    name,
    needs,
    rows: [
      { name, unit: 'Mbit/s', better: 'more' },
      { name: `${name}-cpu-per-gb`, unit: 's/GB', better: 'less' },
      { name: `${name}-rss`, unit: 'MB', better: 'less' },
      ...(withPing ? [rttRow] : []),
    ],
    takes: (seconds) => seconds + 0.6,
    run: async ({ sites: [a, b], running: { pids } }, { seconds }) => {
      const before = cpuSeconds(pids);
      const [carried, echo] = await Promise.all([
        iperf3(a.end, b.end, b.inside[family], { seconds, streams, reverse }),
        withPing ? pinged(a.end, b.inside[family], seconds) : undefined,
      ]);
      const perGb = (cpuSeconds(pids) - before) / (carried.bytes / GIGA);
      return {
        [name]: carried.bitsPerSecond / MEGA,
        ...(pids.length === 0 ? {} : { [`${name}-cpu-per-gb`]: perGb, [`${name}-rss`]: rssMb(pids) }),
        ...(echo === undefined ? {} : { [rttRow.name]: echo }),
      };
    },
  };
};

export const rttIdle: Probe = {
  name: 'rtt-idle',
  rows: [{ name: 'rtt-idle', unit: 'ms', better: 'less' }],
  takes: () => 0.9,
  run: async ({ sites: [a, b] }) => {
    await ping(a.end, b.inside.v4, { count: 5, interval: 0.01 });
    const { rttMs } = await ping(a.end, b.inside.v4, { count: 60, interval: 0.01 });
    if (rttMs === undefined) throw new Error('no ping came back');
    return { 'rtt-idle': rttMs };
  },
};

/** A paced stream, as far as the tunnel carries it, with a ping beside it: a point of the plot. `load`: Mbit/s. */
export const rttAt = (load: number): Probe => {
  const carriedRow = { name: `load-${load}-carried`, unit: 'Mbit/s', better: 'more' } as const;
  const rttRow = { name: `load-${load}-rtt`, unit: 'ms', better: 'less' } as const;
  return {
    name: `load-${load}`,
    rows: [carriedRow, rttRow],
    takes: (seconds) => seconds + 0.6,
    run: async ({ sites: [a, b] }, { seconds }) => {
      const [carried, rtt] = await Promise.all([
        iperf3(a.end, b.end, b.inside.v4, { seconds, options: ['--bitrate', `${load}M`] }),
        pinged(a.end, b.inside.v4, seconds),
      ]);
      return { [carriedRow.name]: carried.bitsPerSecond / MEGA, [rttRow.name]: rtt };
    },
  };
};

const pinged = async (from: Scene['sites'][0]['end'], address: string, seconds: number): Promise<number> => {
  const { rttMs } = await ping(from, address, {
    count: Math.round(seconds / PING_INTERVAL),
    interval: PING_INTERVAL,
  });
  if (rttMs === undefined) throw new Error('no ping came back');
  return rttMs;
};

const CONNECTIONS_PORT = 7007;
/** More failures than this share of them, and the number says nothing. */
const MOST_FAILED = 0.01;

export const connections: Probe = {
  name: 'connections',
  rows: [{ name: 'connections', unit: 'per s', better: 'more' }],
  takes: (seconds) => seconds + 0.5,
  run: async ({ sites: [a, b] }, { seconds }) => {
    const at = [b.inside.v4, CONNECTIONS_PORT] as const;
    const server = b.end.start(benchProgram('connections.ts', 'serve', ...at));
    try {
      await server.printed(/listening/);
      const command = benchProgram('connections.ts', 'connect', ...at, seconds);
      const answer = await a.end.run(command, { timeoutMs: seconds * 1000 + 30_000 });
      const { perSecond = 0, failed = 0 } = numbersOf(answer);
      if (failed > perSecond * seconds * MOST_FAILED) throw new Error(`${failed} connections failed`);
      return { connections: perSecond };
    } finally {
      await server.stop();
    }
  },
};
