// Waiting for a device's control socket: a file that nobody listens on yet is taken by wg for what a crash left behind,
// and deleted.

import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Daemon } from './daemon.ts';

const STARTS_WITHIN_MS = 60_000;

/** Whether somebody takes connections at `path`. */
export const isListening = async (path: string): Promise<boolean> => {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
};

/** Resolves once `daemon` listens at `path`. */
export const untilListening = async (daemon: Daemon, path: string): Promise<void> => {
  const deadline = performance.now() + STARTS_WITHIN_MS;
  while (!(await isListening(path))) {
    if (!daemon.running || performance.now() > deadline)
      throw new Error(`nobody listens at ${path}:\n${daemon.output()}`);
    await sleep(10);
  }
};
