// Debian's iperf3 between two hosts, with its answer as numbers.

import type { Host } from './host.ts';

export interface IperfOptions {
  seconds?: number;
  /** Parallel streams. */
  streams?: number;
  /** The server sends, the client receives. */
  reverse?: boolean;
  udp?: { bitsPerSecond: number; payload?: number };
  /** More options for the client. */
  options?: readonly string[];
}

export interface IperfResult {
  /** What arrived. */
  bitsPerSecond: number;
  bytes: number;
  /** Of TCP. */
  retransmits: number;
  /** Of UDP, in percent. */
  lostPercent: number;
  /** Of UDP: how many left, the last ones among them, which the receiver cannot miss. */
  packetsSent: number;
}

let port = 5201;

/** Sends from `client` to `server` at `address`, an address of it. */
export async function iperf3(
  client: Host,
  server: Host,
  address: string,
  options: IperfOptions = {},
): Promise<IperfResult> {
  port += 1;
  const { seconds = 2, streams = 1, udp } = options;
  const daemon = server.start(['iperf3', '--server', '--one-off', '--forceflush', '--port', `${port}`]);
  try {
    await daemon.printed(/Server listening/);
    const command = [
      'iperf3',
      '--json',
      '--client',
      address,
      '--port',
      `${port}`,
      '--connect-timeout',
      '20000',
    ];
    command.push('--time', `${seconds}`, '--parallel', `${streams}`, ...(options.options ?? []));
    if (options.reverse) command.push('--reverse');
    if (udp) command.push('--udp', '--bitrate', `${udp.bitsPerSecond}`, '--length', `${udp.payload ?? 1200}`);
    const { stdout, stderr } = await client.tryRun(command, { timeoutMs: seconds * 1000 + 60_000 });
    const report: unknown = JSON.parse(stdout || '{}');
    const error = at(report, 'error');
    if (error !== undefined || stdout === '')
      throw new Error(`iperf3 to ${address}: ${String(error ?? stderr)}`);
    const received = at(report, 'end', 'sum_received');
    return {
      bitsPerSecond: number(at(received, 'bits_per_second')),
      bytes: number(at(received, 'bytes')),
      retransmits: number(at(report, 'end', 'sum_sent', 'retransmits')),
      lostPercent: number(at(received, 'lost_percent')),
      packetsSent: number(at(report, 'end', 'sum_sent', 'packets')),
    };
  } finally {
    await daemon.stop();
  }
}

function at(value: unknown, ...path: string[]): unknown {
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Object.entries(value).find(([name]) => name === key)?.[1];
  }
  return value;
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}
