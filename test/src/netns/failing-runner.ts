// Tools that break off at a chosen point: after so many calls, or in the middle of a batch. As a crash nothing works
// afterwards (so nothing is undone); as a failure all works again.

import type { ToolCall, ToolRunner } from '../../../src/netns/tool.ts';
import { ToolFailure } from '../../../src/netns/tool.ts';

/** After `lines` lines of the `call`-th call that changes something (both from 0). */
export interface BreakingPoint {
  readonly call: number;
  readonly lines: number;
}

/** What only asks does not count: `ip` with nothing but "show", and nft's listings. */
const changes = (call: ToolCall): boolean =>
  call.program === 'ip' ? changingLines(call).length > 0 : !call.arguments.includes('-j');

const changingLines = (call: ToolCall): string[] =>
  (call.input ?? '').split('\n').filter((line) => line !== '' && !line.includes(' show'));

const isIpBatch = (call: ToolCall): boolean => call.program === 'ip' && call.arguments.includes('-batch');

/** Counts the lines of each call that changes something. */
export class RecordingRunner implements ToolRunner {
  readonly lines: number[] = [];
  readonly #inner: ToolRunner;

  constructor(inner: ToolRunner) {
    this.#inner = inner;
  }

  /** Every point at which a run could have been cut off. */
  get points(): BreakingPoint[] {
    return this.lines.flatMap((count, call) =>
      Array.from({ length: count }, (_, lines) => ({ call, lines })),
    );
  }

  run(call: ToolCall, signal?: AbortSignal): Promise<string> {
    // nft is one transaction and settings take no half measures: only `ip` can stop in between.
    if (changes(call)) this.lines.push(isIpBatch(call) ? changingLines(call).length : 1);
    return this.#inner.run(call, signal);
  }
}

export class BreakingRunner implements ToolRunner {
  readonly #inner: ToolRunner;
  readonly #point: BreakingPoint;
  readonly #mode: 'crash' | 'failure';
  #calls = 0;
  broken = false;

  constructor(inner: ToolRunner, point: BreakingPoint, mode: 'crash' | 'failure') {
    this.#inner = inner;
    this.#point = point;
    this.#mode = mode;
  }

  async run(call: ToolCall, signal?: AbortSignal): Promise<string> {
    if (this.broken && this.#mode === 'crash') throw new ToolFailure('internal', 'dead', '');
    if (!this.broken && changes(call) && this.#calls++ === this.#point.call) {
      this.broken = true;
      const { lines } = this.#point;
      if (lines > 0) {
        const input = `${changingLines(call).slice(0, lines).join('\n')}\n`;
        await this.#inner.run({ ...call, input }, signal);
      }
      throw new ToolFailure('internal', 'broken off', '');
    }
    return this.#inner.run(call, signal);
  }
}
