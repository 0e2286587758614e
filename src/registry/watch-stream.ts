// The steps of a watch after its first, written to its HTTP/2 stream past the framework: one frame in memory for all who
// stand at the same revision, and no copy of it. A stream that does not take what it was given is told nothing until it
// has, and then everything since in one step: its queue is one frame.

import type { Writable } from 'node:stream';
import type { WatchNetworkResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { Rounds } from './rounds.ts';
import type { SharedMessage } from './shared-message.ts';

export interface WatchPosition {
  /** The revision that the watcher has. */
  readonly seen: number;
  /** How often it hears something at least. */
  readonly progressMs: number;
}

export interface WatchSource {
  readonly next: (seen: number) => SharedMessage | undefined;
  readonly signOfLife: () => SharedMessage;
  /** Throws when the watch has to end. */
  readonly mustStill: () => void;
}

/** Resolves when the network is gone or the signal aborts; rejects with why the watch had to end. */
export const sharedFrames = (
  stream: Writable,
  { seen: from, progressMs }: WatchPosition,
  source: WatchSource,
  rounds: Rounds,
  signal: AbortSignal,
): Promise<void> =>
  new Promise((resolve, reject) => {
    let seen = from;
    let due = performance.now() + progressMs;
    const end = (settle: () => void): void => {
      leave();
      stream.off('drain', onDrain);
      signal.removeEventListener('abort', onAbort);
      settle();
    };
    const serve = (): void => {
      try {
        source.mustStill();
        if (stream.writableNeedDrain || stream.destroyed || stream.writableEnded) return;
        const now = performance.now();
        const shared = source.next(seen) ?? (now >= due ? source.signOfLife() : undefined);
        if (shared === undefined) return;
        stream.write(shared.frame);
        seen = Number(shared.message.revision);
        due = now + progressMs;
        if (isLast(shared.message)) end(resolve);
      } catch (error) {
        end(() => reject(error));
      }
    };
    // More may have come meanwhile.
    const onDrain = (): void => rounds.want();
    const onAbort = (): void => end(resolve);
    const leave = rounds.join(serve);
    stream.on('drain', onDrain);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    else rounds.want();
  });

/** The network is gone. */
export const isLast = ({ step }: WatchNetworkResponse): boolean =>
  step.case === 'delta' && step.value.networkDeleted;
