// Waiting for what is not so yet, also outside of a test.

import { setTimeout as sleep } from 'node:timers/promises';

/** Tries until `check` does not throw; then throws what it threw last. */
export const eventually = async (
  check: () => Promise<void>,
  { timeout, interval }: { timeout: number; interval: number },
): Promise<void> => {
  const deadline = performance.now() + timeout;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(interval);
    }
  }
};
