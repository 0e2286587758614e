// An agent that can be told to die at its nth side effect from now on, and what those side effects were. The agent is the
// real one, with fault-points.ts loaded before it.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Node } from './node.ts';

const FAULT_POINTS = fileURLToPath(new URL('./fault-points.ts', import.meta.url));

export interface Order {
  /** The step to die at; 0: none. */
  at: number;
  /** How far the agent's wall clock goes ahead from now on. */
  aheadMs?: number;
}

export class Faults {
  readonly #directory: string;

  /** `directory` is made. */
  constructor(directory: string) {
    mkdirSync(directory, { recursive: true });
    this.#directory = directory;
  }

  /** The environment of the agent. */
  get env(): Record<string, string> {
    return { NODE_OPTIONS: `--import=${FAULT_POINTS}`, VL3_FAULTS: this.#directory };
  }

  /** From now on the steps of the node's agent are counted, from 1. */
  async arm(node: Node, { at, aheadMs = 0 }: Order): Promise<void> {
    writeFileSync(join(this.#directory, 'order'), JSON.stringify({ at, aheadMs }));
    writeFileSync(join(this.#directory, 'trace'), '');
    process.kill(node.agent.pid, 'SIGUSR2');
    const trace = join(this.#directory, 'trace');
    while (!readFileSync(trace, 'utf8').includes('armed')) {
      if (!node.agent.running) throw new Error(`the agent ended:\n${node.agent.output()}`);
      await sleep(2);
    }
  }

  /** The steps since it was armed. */
  get steps(): string[] {
    const trace = join(this.#directory, 'trace');
    if (!existsSync(trace)) return [];
    return readFileSync(trace, 'utf8')
      .split('\n')
      .filter((line) => /^\d/.test(line));
  }
}

/** `count` numbers out of 1 to `last`, the first and the last among them, spread evenly. */
export const spreadSteps = (last: number, count: number): number[] => {
  const all = Array.from({ length: Math.min(last, count) }, (_, i) =>
    Math.round(1 + (i * (last - 1)) / Math.max(1, Math.min(last, count) - 1)),
  );
  return [...new Set(all)];
};
