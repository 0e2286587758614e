// What a registry that lost its memory takes from the nodes themselves: a node from its certificate, a network from the
// first who is on it. Leases and memberships: renewal-rules; what others say of a node: testimony-rules.

import { Vl3Error } from '../error.ts';
import { keys, one } from './keys.ts';
import {
  type Certificate,
  type Network,
  type Node,
  node as nodeSchema,
  report as reportSchema,
} from './model.ts';
import { createNetwork } from './network-rules.ts';
import { newReport, recoveryOf } from './recovery-rules.ts';
import { mustBeEnrolled, put, type Rule, settled } from './rules.ts';

/**
 * A node of whom only its certificate is known, which holds under this CA and names `node`: in a recovery it is believed.
 * Throws Vl3Error('unauthenticated') otherwise. Answers whether it is new.
 */
export const adoptNode = (
  node: string,
  spiffeId: string,
  certificate: Certificate,
  now: number,
): Rule<boolean> => ({
  reads: [one(keys.domain), one(keys.node(node)), one(keys.report(node))],
  decide: (state) => {
    const known = state.node(node);
    if (known !== undefined || recoveryOf(state) === undefined) {
      mustBeEnrolled(state, node);
      return settled(false);
    }
    const value: Node = { name: node, spiffeId, enrolledAt: now, certificates: [certificate], refused: [] };
    const report = { ...(state.report(node)?.value ?? newReport(node)), adopted: true };
    return {
      compares: [keys.domain, keys.node(node), keys.report(node)].map((key) => state.unchanged(key)),
      operations: [put(keys.node(node), nodeSchema, value), put(keys.report(node), reportSchema, report)],
      answer: true,
    };
  },
});

/** From one node, which is on no more; or it fills the store with what nobody is on. */
const MAX_NETWORKS = 1024;

/** As records name it. */
const NETWORK_UID = /^[A-Za-z0-9._-]{1,64}$/;

export type Adoption =
  | { readonly kind: 'known' | 'adopted' }
  | { readonly kind: 'refused'; readonly reason: string };

/** In a recovery: as strict as if an admin created it, with the identity that the nodes know it by. */
export const adoptNetwork = (node: string, network: Network): Rule<Adoption> => {
  const { name, poolV4 = '', poolV6 = '', nodePrefixLengthV4 = 0, nodePrefixLengthV6 = 0 } = network;
  const { excluded, mtu, uid, createdAt } = network;
  const refused = (reason: string): Rule<Adoption> => ({
    reads: [],
    decide: () => settled<Adoption>({ kind: 'refused', reason: `network "${name}": ${reason}` }),
  });
  if (!NETWORK_UID.test(uid)) return refused('it has no proper uid');
  try {
    const request = { name, poolV4, poolV6, nodePrefixLengthV4, nodePrefixLengthV6, excluded, mtu };
    const creation = createNetwork(request, { now: createdAt, uid });
    return {
      reads: [
        one(keys.domain),
        one(keys.node(node)),
        one(keys.report(node)),
        one(keys.network(name)),
        ...creation.reads,
      ],
      decide: (state) => {
        mustBeEnrolled(state, node);
        if (recoveryOf(state) === undefined || state.network(name) !== undefined) {
          return settled<Adoption>({ kind: 'known' });
        }
        const report = state.report(node)?.value ?? newReport(node);
        const { networks = 0 } = report;
        if (networks >= MAX_NETWORKS) {
          const reason = `network "${name}": ${MAX_NETWORKS} others were already taken from this node`;
          return settled<Adoption>({ kind: 'refused', reason });
        }
        const plan = creation.decide(state);
        const counted = put(keys.report(node), reportSchema, { ...report, networks: networks + 1 });
        return {
          compares: [...plan.compares, state.unchanged(keys.domain), state.unchanged(keys.report(node))],
          operations: [...plan.operations, counted],
          answer: { kind: 'adopted' },
        };
      },
    };
  } catch (error) {
    if (error instanceof Vl3Error && error.code !== 'internal') return refused(error.message);
    throw error;
  }
};
