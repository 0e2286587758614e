// What the registry does on its own. Every tick registry time goes on, leases end and are forgotten, and a recovery that is
// over ends. At start and hourly it finishes deletions that a crash cut off, and forgets tokens and tombstones that say
// nothing any more.

import type { Logger } from 'pino';
import { advanceClock } from '../../native-free/registry/clock-rules.ts';
import { forgetClusterNodes } from '../../native-free/registry/cluster-enrolment-rules.ts';
import { dueLeases, endLeases, forgetRested, purgeLeases } from '../../native-free/registry/expiry-rules.ts';
import { all, below } from '../../native-free/registry/keys.ts';
import { removeMember } from '../../native-free/registry/lease-rules.ts';
import type { LeaseTerms } from '../../native-free/registry/lease-terms.ts';
import { forgetTombstones, TOMBSTONE_MEMORY_MS } from '../../native-free/registry/node-rules.ts';
import { forgetOperators } from '../../native-free/registry/operator-rules.ts';
import { endRecovery } from '../../native-free/registry/recovery-rules.ts';
import { tellRefusals } from '../../native-free/registry/refusal-rules.ts';
import { forgetTokens } from '../../native-free/registry/token-rules.ts';
import { removeStrayMembers } from './stray-members.ts';
import type { Transactor } from './transactor.ts';

interface Dependencies {
  readonly transactor: Transactor;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly terms: LeaseTerms;
  readonly trustDomain: string;
  readonly logger: Logger;
}

const HOUR_MS = 60 * 60 * 1000;

/** Resolves after the first round; later ones only log what goes wrong. */
export const maintain = async (deps: Dependencies): Promise<AsyncDisposable> => {
  const { logger, terms } = deps;
  await tidy(deps);
  const clock = new RegistryClock(deps);
  let running: Promise<void> = Promise.resolve();
  /** Rounds never overlap: a slow one delays the next. */
  const every = (ms: number, work: () => Promise<void>): NodeJS.Timeout =>
    setInterval(() => {
      running = running.then(work).catch((error: unknown) => {
        logger.error({ err: error }, 'maintenance of the store failed');
      });
    }, ms);
  const timers = [
    every(terms.tickMs, async () => {
      await clock.advance();
      await expire(deps);
    }),
    every(HOUR_MS, () => tidy(deps)),
  ];
  return {
    async [Symbol.asyncDispose]() {
      for (const timer of timers) clearInterval(timer);
      await running;
      // Best effort: what is not written down has not passed.
      await clock
        .advance()
        .catch((error: unknown) => logger.warn({ err: error }, 'registry time was not saved'));
    },
  };
};

/** Measures how long the registry has been up, and writes it down. */
class RegistryClock {
  readonly #deps: Dependencies;
  #measuredAt = performance.now();

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  async advance(): Promise<void> {
    const { transactor, terms } = this.#deps;
    const measuredAt = performance.now();
    const passed = measuredAt - this.#measuredAt;
    this.#measuredAt = measuredAt;
    // A process that stalled, or could not write, let nobody renew meanwhile: that was no time.
    await transactor.run(advanceClock(Math.min(passed, 2 * terms.tickMs)));
  }
}

const expire = async ({ transactor, now, terms, logger }: Dependencies): Promise<void> => {
  const { answer: ended } = await transactor.run(endRecovery(terms));
  if (ended !== undefined) {
    const why = ended === 'all-reported' ? 'every node has said what it holds' : 'nobody can hold more';
    logger.info({ reason: ended }, `recovery ended, since ${why}: prefixes are issued again`);
  }
  const { answer: due } = await transactor.run(dueLeases(terms));
  for (const holder of due.overdue) {
    for (;;) {
      const { answer } = await transactor.run(endLeases(holder, terms, now()));
      const prefixes = answer.ended.map(({ prefix }) => prefix);
      if (prefixes.length > 0)
        logger.warn({ ...holder, prefixes }, 'lease ended: its node has not renewed it');
      if (!answer.remaining) break;
    }
  }
  for (const holder of due.purgeable) {
    const { answer } = await transactor.run(purgeLeases(holder, terms, now()));
    const prefixes = answer.purged.map(({ prefix }) => prefix);
    if (prefixes.length > 0) logger.info({ ...holder, prefixes }, 'prefix is free after its quarantine');
    if (answer.left) logger.info(holder, 'node is off the network: its last lease is gone');
  }
  if (due.rested > 0) while ((await transactor.run(forgetRested(terms))).answer > 0);
};

const tidy = async (deps: Dependencies): Promise<void> => {
  const { transactor, now, terms, trustDomain, logger } = deps;
  await removeStrayMembers(deps);
  const state = await transactor.read([all(below.nodes), all(below.members())]);
  for (const { value } of state.members()) {
    if (state.node(value.node)?.value.deletedAt === undefined) continue;
    await transactor.run(removeMember(value.network, value.node, now()));
    logger.info({ node: value.node, network: value.network }, 'deletion of a node finished');
  }
  const { answer: gone } = await transactor.run(forgetClusterNodes(now()));
  if (gone.length > 0)
    logger.info(
      { nodes: gone },
      'nodes forgotten: their clusters took them away, and their SVIDs have expired',
    );
  while ((await transactor.run(tellRefusals(trustDomain, now()))).answer);
  await transactor.run(forgetTokens(now()));
  await transactor.run(forgetOperators(now()));
  await transactor.run(forgetTombstones(now(), Math.max(TOMBSTONE_MEMORY_MS, 2 * terms.termMs)));
};
