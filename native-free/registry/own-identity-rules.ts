// Nodes of a domain whose SVIDs somebody else issues: to have one is to be enrolled, unless an admin deleted the node, or the
// registry takes no new ones. Serials mean nothing here: SVIDs are renewed without the registry.

import { NotEnrolled } from '../error.ts';
import { keys, one } from './keys.ts';
import { check, type Node, name as nameSchema, node as nodeSchema } from './model.ts';
import { put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';

/** Whether nodes that the registry does not know may come. */
export const ENROLMENTS = ['open', 'closed'] as const;
export type OwnEnrolment = (typeof ENROLMENTS)[number];

export interface OwnNode {
  readonly name: string;
  readonly spiffeId: string;
}

/** Of a node that is known and was not deleted. */
export const isEnrolled = (state: State, name: string): boolean => {
  const node = state.node(name)?.value;
  return node !== undefined && node.deletedAt === undefined;
};

/** Enrols a node whose SVID holds, or refuses it: throws NotEnrolled. Answers whether it is new, or comes back. */
export const enrolByIdentity = (
  { name, spiffeId }: OwnNode,
  enrolment: OwnEnrolment,
  now: number,
): Rule<boolean> => {
  check(nameSchema, name, 'node');
  const key = keys.node(name);
  return {
    reads: [one(key)],
    decide: (state) => {
      if (isEnrolled(state, name)) return settled(false);
      const node = state.node(name)?.value;
      if (node !== undefined && node.readmittedAt === undefined)
        throw new NotEnrolled(
          'deleted',
          `node "${name}" was deleted, and an SVID alone does not bring it back: an admin lets it (\`vl3 node readmit ${name}\`)`,
        );
      if (node === undefined && enrolment === 'closed')
        throw new NotEnrolled(
          'unknown',
          `node "${name}" is unknown, and this registry takes no new ones: set own-enrolment to open there until it has come`,
        );
      const value: Node = { name, spiffeId, enrolledAt: now, certificates: [], refused: [] };
      return { compares: [state.unchanged(key)], operations: [put(key, nodeSchema, value)], answer: true };
    },
  };
};
