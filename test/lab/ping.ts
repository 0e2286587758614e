// Debian's ping, with its answer as numbers.

import type { Host } from './host.ts';

export interface PingOptions {
  count?: number;
  /** Seconds between packets. */
  interval?: number;
  /** Seconds to wait for the last answer. */
  wait?: number;
  /** Goes on until `count` answers came back, for so many seconds at most. */
  patience?: number;
  /** Bytes of payload. */
  size?: number;
  /** Source address or interface. */
  source?: string;
}

export interface PingResult {
  sent: number;
  received: number;
  /** Average round trip; undefined when nothing came back. */
  rttMs: number | undefined;
}

export async function ping(from: Host, address: string, options: PingOptions = {}): Promise<PingResult> {
  const { count = 1, interval = 0.2, wait = 2, patience, size, source } = options;
  const command = ['ping', '-n', '-q', '-c', `${count}`, '-i', `${interval}`, '-W', `${wait}`];
  if (patience !== undefined) command.push('-w', `${patience}`);
  if (size !== undefined) command.push('-s', `${size}`);
  if (source !== undefined) command.push('-I', source);
  const timeoutMs = (count * interval + wait) * 1000 + 60_000;
  const { stdout } = await from.tryRun([...command, address], { timeoutMs });
  const counts = /(\d+) packets transmitted, (\d+) received/.exec(stdout);
  const rtt = /= [\d.]+\/([\d.]+)\//.exec(stdout);
  return {
    // Without a summary line ping could not even send: no route, say.
    sent: Number(counts?.[1] ?? count),
    received: Number(counts?.[2] ?? 0),
    rttMs: rtt ? Number(rtt[1]) : undefined,
  };
}
