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

const AT_ONCE = 64;

/** Answers the nodes, "node@domain". */
export const removeStrayMembers = async ({ transactor, now, logger }: Dependencies): Promise<string[]> => {
  const { answer: strays } = await transactor.run(strayMembers);
  const remove = async ({ network, node }: (typeof strays)[number]): Promise<void> => {
    const { answer } = await transactor.run(removeForeignMember(network, node, now()));
    const freed = answer.map(({ prefix }) => prefix);
    logger.info(
      { node, network, freed },
      "a partner's node is off the network: its federation ended or leaves it out",
    );
  };
  // The store commits together what is asked at once: a thousand nodes must not take seconds.
  for (let at = 0; at < strays.length; at += AT_ONCE)
    await Promise.all(strays.slice(at, at + AT_ONCE).map(remove));
  return [...new Set(strays.map(({ node }) => node))];
};
