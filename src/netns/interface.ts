// Brings an interface to the state it ought to have: applies the commands, then waits until the kernel has carried out
// what it does on its own time. Both need its one big lock, which others may hold for long: a link drops packets until
// its carrier was noticed, and an IPv6 address takes none in until its local route is made, be it without DAD.

import { setTimeout as sleep } from 'node:timers/promises';
import { Vl3Error } from '../../native-free/error.ts';
import { type InterfaceState, interfaceCommands, isSettled } from './interface-state.ts';
import { applyAndRead, type Command, type NamespaceState, readNamespace } from './ip.ts';
import type { ToolRunner } from './tool.ts';

const PATIENCE_MS = 10_000;
const LONGEST_PAUSE_MS = 50;

/**
 * Applies what leads from `found` to `wanted`, `before` first. Returns what is there then; without anything to do,
 * no process is started and `found` comes back.
 */
export const applyInterface = async (
  tools: ToolRunner,
  netns: string,
  wanted: InterfaceState,
  found: NamespaceState,
  before: readonly Command[] = [],
  signal?: AbortSignal,
): Promise<NamespaceState> => {
  const commands = [...before, ...interfaceCommands(wanted, found)];
  return commands.length === 0 ? found : applyAndRead(tools, netns, commands, wanted.name, signal);
};

/** Waits until the interface is of use; `seen` is what was last read of it. Throws Vl3Error('unavailable'). */
export const settleInterface = async (
  tools: ToolRunner,
  netns: string,
  wanted: InterfaceState,
  seen: NamespaceState,
  signal?: AbortSignal,
): Promise<void> => {
  const deadline = performance.now() + PATIENCE_MS;
  for (let pause = 1; !isSettled(wanted, seen); pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    if (performance.now() > deadline) {
      throw new Vl3Error(
        'unavailable',
        `the interface ${wanted.name} did not come up within ${PATIENCE_MS} ms; the machine may be overloaded: try again`,
      );
    }
    await sleep(pause, undefined, signal === undefined ? {} : { signal });
    seen = await readNamespace(tools, netns, wanted.name, signal);
  }
};
