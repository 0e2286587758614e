// What the registry does on its own, at start and hourly: it finishes deletions that a crash cut off, and forgets
// tokens and tombstones that say nothing any more.

import type { Logger } from 'pino';
import { all, below } from '../../native-free/registry/keys.ts';
import { removeMember } from '../../native-free/registry/lease-rules.ts';
import { forgetTombstones } from '../../native-free/registry/node-rules.ts';
import { forgetTokens } from '../../native-free/registry/token-rules.ts';
import type { Transactor } from './transactor.ts';

interface Dependencies {
  readonly transactor: Transactor;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
}

const HOUR_MS = 60 * 60 * 1000;

/** Resolves after the first round; later ones only log what goes wrong. */
export const maintain = async (deps: Dependencies): Promise<AsyncDisposable> => {
  await round(deps);
  let running: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    running = round(deps).catch((error: unknown) => {
      deps.logger.error({ err: error }, 'maintenance of the store failed');
    });
  }, HOUR_MS);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await running;
    },
  };
};

const round = async ({ transactor, now, logger }: Dependencies): Promise<void> => {
  const state = await transactor.read([all(below.nodes), all(below.members())]);
  for (const { value } of state.members()) {
    if (state.node(value.node)?.value.deletedAt === undefined) continue;
    await transactor.run(removeMember(value.network, value.node, now()));
    logger.info({ node: value.node, network: value.network }, 'deletion of a node finished');
  }
  await transactor.run(forgetTokens(now()));
  await transactor.run(forgetTombstones(now()));
};
