// Takes away what nodes of other domains have here that may have nothing: after a federation has ended or was narrowed, and after
// a crash in between.

import type { Logger } from 'pino';
import { removeForeignMember, strayMembers } from '../../native-free/registry/federation-rules.ts';
import type { Transactor } from './transactor.ts';

interface Dependencies {
  readonly transactor: Transactor;
  readonly now: () => number;
  readonly logger: Logger;
}

/** Answers the nodes, "node@domain". */
export const removeStrayMembers = async ({ transactor, now, logger }: Dependencies): Promise<string[]> => {
  const removed = new Set<string>();
  for (const { network, node } of (await transactor.run(strayMembers)).answer) {
    const { answer } = await transactor.run(removeForeignMember(network, node, now()));
    removed.add(node);
    const freed = answer.map(({ prefix }) => prefix);
    logger.info(
      { node, network, freed },
      "a partner's node is off the network: its federation ended or leaves it out",
    );
  }
  return [...removed];
};
