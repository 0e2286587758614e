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
  /** The IP header's, all eight bits. */
  trafficClass?: number;
}

export interface PingResult {
  sent: number;
  received: number;
  /** Average round trip; undefined when nothing came back. */
  rttMs: number | undefined;
}

/**
 * Up to so many are programs of their own: once anything came back, ping waits for the last answer no longer than an interval
 * or two round trips, whatever it was told, and what a busy machine is late with would be taken for lost.
 */
const FEW = 20;
const EACH =
  'count=$1 interval=$2; shift 2; for i in $(seq "$count"); do "$@" & sleep "$interval"; done; wait';

export async function ping(from: Host, address: string, options: PingOptions = {}): Promise<PingResult> {
  const { count = 1, interval = 0.2, wait = 2, patience, size, source, trafficClass } = options;
  const isEach = count > 1 && count <= FEW && patience === undefined;
  const command = ['ping', '-n', '-q', '-c', `${isEach ? 1 : count}`, '-i', `${interval}`, '-W', `${wait}`];
  if (patience !== undefined) command.push('-w', `${patience}`);
  if (size !== undefined) command.push('-s', `${size}`);
  if (source !== undefined) command.push('-I', source);
  if (trafficClass !== undefined) command.push('-Q', `${trafficClass}`);
  command.push(address);
  const timeoutMs = (count * interval + wait) * 1000 + 60_000;
  const all = isEach ? ['sh', '-c', EACH, 'sh', `${count}`, `${interval}`, ...command] : command;
  const { stdout } = await from.tryRun(all, { timeoutMs });
  const counts = [...stdout.matchAll(/(\d+) packets transmitted, (\d+) received/g)];
  const rtts = [...stdout.matchAll(/= [\d.]+\/([\d.]+)\//g)].map(([, average]) => Number(average));
  return {
    // Without a summary line ping could not even send: no route, say.
    sent: isEach || counts.length === 0 ? count : Number(counts[0]?.[1]),
    received: sum(counts.map(([, , received]) => Number(received))),
    rttMs: rtts.length === 0 ? undefined : sum(rtts) / rtts.length,
  };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
