// What a rule is: the ranges it reads, and a pure function from what they hold to a plan (compares and operations) or
// a Vl3Error. The rules themselves: network-rules, lease-rules, announcement-rules, node-rules, token-rules.
// Carrying a plan out, and deciding anew when it lost a race, is src/registry/transactor.ts.

import type { z } from 'zod';
import { NotEnrolled, Vl3Error } from '../error.ts';
import { foreignDomainOf } from './foreign-key.ts';
import { mustBeFederated, mustBeOfFederation } from './foreign-rules.ts';
import { encodeValue, type Network, type Node } from './model.ts';
import type { State, Stored } from './state.ts';
import type { Operation, Plan, Range } from './transaction.ts';

export interface Rule<Answer> {
  readonly reads: readonly Range[];
  /** Throws Vl3Error when the transition is refused. */
  decide(state: State): Plan<Answer>;
}

export const put = <T>(key: string, schema: z.ZodType<T>, value: T, lease?: string): Operation => ({
  kind: 'put',
  key,
  value: encodeValue(schema, value, key),
  ...(lease !== undefined && { lease }),
});

/** Nothing to do: the answer stands as it is. */
export const settled = <Answer>(answer: Answer): Plan<Answer> => ({ compares: [], operations: [], answer });

export const mustBeNetwork = (state: State, name: string): Stored<Network> => {
  const network = state.network(name);
  if (network === undefined) {
    throw new Vl3Error(
      'not-found',
      `there is no network "${name}": see \`vl3 network list\`, or create it with \`vl3 network create\``,
    );
  }
  return network;
};

/**
 * Every transition on behalf of a node asks this: a deleted node changes nothing any more, and of another domain nobody once
 * the federation has ended. Reads the node's identityKey.
 */
export const mustBeEnrolled = (state: State, name: string): void => {
  const domain = foreignDomainOf(name);
  if (domain === undefined) enrolledNode(state, name);
  else mustBeFederated(state, domain);
};

/** Of the home domain. Throws NotEnrolled. */
export const enrolledNode = (state: State, name: string): Stored<Node> => {
  const node = state.node(name);
  if (node === undefined) throw notEnrolled('unknown', name);
  if (node.value.deletedAt !== undefined) throw notEnrolled('deleted', name);
  return node;
};

export const notEnrolled = (why: NotEnrolled['why'], name: string): NotEnrolled =>
  new NotEnrolled(
    why,
    `node "${name}" ${why === 'deleted' ? 'was deleted' : 'is unknown here'}: stop its agent, and start it with a new join token (\`vl3 token create\`)`,
  );

export const mustBeMember = (state: State, network: string, node: string): void => {
  mustBeOfFederation(state, network, node);
  if (state.member(network, node) === undefined) {
    throw new Vl3Error(
      'permission-denied',
      `node "${node}" is not on network "${network}": it must join first`,
    );
  }
};
