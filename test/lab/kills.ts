// Agents killed under TCP streams and started again at once, round after round: how long each stream was silent, and
// which did not live through it.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Node } from './node.ts';
import { quantile } from './spread.ts';
import type { Stream } from './stream.ts';

export interface Kills {
  /** Each stream's longest silence in each round, ms; at most 100 counts as 0. */
  readonly gaps: number[];
  /** Streams that broke. */
  readonly lost: string[];
  /** Bytes that arrived and were not what was sent. */
  readonly wrong: number;
  /** From the start of the process until the agent is up, ms. */
  readonly starts: number[];
}

/** More than what piles up at a sender while nothing passes. */
const GOES_ON = 3_000_000;
const PATIENCE_MS = 60_000;

/** The victims take turns. Ends early when a stream broke: its number says which. */
export const killUnderStreams = async (
  streams: readonly Stream[],
  victims: readonly Node[],
  rounds: number,
): Promise<Kills> => {
  const gaps: number[] = [];
  const lost: string[] = [];
  const starts: number[] = [];
  for (let round = 0; round < rounds && lost.length === 0; round++) {
    const victim = victims[round % victims.length];
    if (victim === undefined) throw new Error('nobody to kill');
    const before = streams.map(({ silences }) => silences.length);
    // Sometimes right after a session began, sometimes well into it.
    await sleep(300 + ((round * 397) % 1_700));
    await victim.agent.stop('SIGKILL');
    const start = performance.now();
    await victim.start();
    starts.push(performance.now() - start);
    await Promise.all(
      streams.map(async (stream, i) => {
        try {
          await goesOn(stream);
          gaps.push(Math.max(0, ...stream.silences.slice(before[i])));
        } catch (error) {
          lost.push(`stream ${i} in round ${round} (${victim.name} killed): ${String(error)}`);
        }
      }),
    );
  }
  const wrong = lost.length > 0 ? 0 : streams.reduce((sum, { progress }) => sum + progress.wrong, 0);
  return { gaps, lost, wrong, starts };
};

export const describeKills = ({ gaps, lost, starts }: Kills): string => {
  const at = (values: readonly number[], share: number): number => Math.round(quantile(values, share));
  return (
    `${starts.length} kills: silence p50 ${at(gaps, 0.5)} ms, p99 ${at(gaps, 0.99)} ms, max ${at(gaps, 1)} ms; ` +
    `agent up after p50 ${at(starts, 0.5)} ms; ${lost.length} connections lost`
  );
};

const goesOn = async (stream: Stream): Promise<void> => {
  const { bytes } = stream.progress;
  const deadline = performance.now() + PATIENCE_MS;
  while (stream.progress.bytes < bytes + GOES_ON) {
    if (performance.now() > deadline) throw new Error(`nothing passes for ${PATIENCE_MS} ms`);
    await sleep(50);
  }
};
