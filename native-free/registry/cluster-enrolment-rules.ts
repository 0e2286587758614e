// Enrolment by the word of a Kubernetes cluster: a token of its that was verified (src/registry/clusters.ts) says which node
// of which cluster asks. As with join tokens a node keeps its networks and prefixes when it enrols anew, and its earlier SVIDs
// are refused. Not so: who asks anew while the node is alive, after an admin deleted it, or with a token that was used.

import { Vl3Error } from '../error.ts';
import { type Enrollment, EnrollmentRefused, givenBefore, type IssuedSvid } from './enrolment-rules.ts';
import { all, below, keys, one } from './keys.ts';
import {
  type ClusterEnrolment,
  check,
  clusterEnrolment as clusterEnrolmentSchema,
  MAX_CERTIFICATES,
  MAX_USED_TOKENS,
  type Node,
  name as nameSchema,
  node as nodeSchema,
} from './model.ts';
import { addCertificate, mustNotHurry, unexpired } from './node-rules.ts';
import { mustIssue, recoveryOf } from './recovery-rules.ts';
import { put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import { MAX_OPERATIONS } from './transaction.ts';

/** What a verified token says. */
export interface ClusterNode {
  readonly cluster: string;
  readonly kubernetesNode: string;
  readonly kubernetesUid?: string;
  /** What the node is called in the domain. */
  readonly node: string;
  /** SHA-256 of what the token's signature covers, hex. */
  readonly tokenHash: string;
  /** When no more will be accepted of it. */
  readonly tokenExpiresAt: number;
}

export interface ClusterEnrollmentRequest extends ClusterNode {
  /** SHA-256 of the public key that the certificate request proved, hex. */
  readonly keyHash: string;
}

interface Admitted {
  readonly node: Node | undefined;
  readonly before: ClusterEnrolment | undefined;
  /** The machine that enrolled last asks again, since the answer got lost. */
  readonly isAgain: boolean;
}

/**
 * More than Kubernetes has in a cluster, with room for those that an autoscaler took away this week: whoever signs for one
 * cluster names nodes as fast as he can, and the store is everybody's.
 */
const MAX_CLUSTER_NODES = 20_000;

const mustHaveRoom = (state: State, cluster: string, most: number): void => {
  const named = state.clusterEnrolments().filter(({ value }) => value.cluster === cluster).length;
  if (named < most) return;
  throw new Vl3Error(
    'resource-exhausted',
    `cluster "${cluster}" has named ${named} nodes, and no more are taken: those that are gone are forgotten with their last SVID; are these its nodes?`,
  );
};

const admit = (state: State, request: ClusterEnrollmentRequest, most: number): Admitted => {
  const { node: name, cluster, kubernetesNode } = request;
  const node = state.node(name)?.value;
  const before = state.clusterEnrolment(name)?.value;
  const isPresent = node !== undefined && node.deletedAt === undefined;
  const isOfCluster =
    isPresent &&
    before?.enrolledAt === node.enrolledAt &&
    before.cluster === cluster &&
    before.kubernetesNode === kubernetesNode;
  if (isOfCluster && before?.keyHash === request.keyHash) return { node, before, isAgain: true };
  if (before?.usedTokens.some(({ hash }) => hash === request.tokenHash)) {
    throw new EnrollmentRefused(
      'used',
      `this token has enrolled node "${name}" already, under another key: wait until the kubelet has renewed it`,
    );
  }
  if (node?.deletedAt !== undefined && node.readmittedAt === undefined) {
    throw new EnrollmentRefused(
      'deleted',
      `node "${name}" was deleted, and does not come back by itself: an admin lets it (\`vl3 node readmit ${name}\`)`,
    );
  }
  if (isPresent && !isOfCluster) {
    throw new EnrollmentRefused(
      'name-taken',
      `node "${name}" did not enrol as ${kubernetesNode} of cluster "${cluster}": if it is that machine, an admin deletes and readmits it (\`vl3 node delete\`, \`vl3 node readmit\`)`,
    );
  }
  if (isPresent && state.liveness(name) !== undefined) {
    throw new EnrollmentRefused(
      'alive',
      `node "${name}" is alive, under another key: stop the agent that is it; a few seconds after its last heartbeat another may enrol as it`,
    );
  }
  // It may be alive, and unheard of yet by a registry that lost its memory: its key would count beside this one.
  if (node === undefined) {
    mustIssue(state, 'name');
    mustHaveRoom(state, cluster, most);
  }
  return { node, before, isAgain: false };
};

const readsOf = ({ node }: ClusterNode) => {
  check(nameSchema, node, 'node');
  return [one(keys.domain), one(keys.node(node)), all(below.clusterEnrolments), one(keys.liveness(node))];
};

/**
 * Asks whether this admits, and changes nothing: before a certificate is signed. Answers the chain when one was given out
 * already.
 */
export const checkClusterEnrollment = (
  request: ClusterEnrollmentRequest,
  now: number,
  most = MAX_CLUSTER_NODES,
): Rule<readonly string[] | undefined> => ({
  reads: readsOf(request),
  decide: (state) => {
    const { before, isAgain } = admit(state, request, most);
    return settled(isAgain && before !== undefined ? givenBefore(before, now) : undefined);
  },
});

/** Makes the node and uses the token up, in one transaction. A node enrolled anew keeps its networks and prefixes. */
export const enrollByCluster = (
  request: ClusterEnrollmentRequest & { readonly spiffeId: string; readonly svid: IssuedSvid },
  now: number,
  most = MAX_CLUSTER_NODES,
): Rule<Enrollment> => {
  const { node: name, cluster, kubernetesNode, kubernetesUid, keyHash, spiffeId } = request;
  const { certificate, notBefore, chain } = request.svid;
  const [nodeKey, enrolmentKey] = [keys.node(name), keys.clusterEnrolment(name)];
  return {
    reads: readsOf(request),
    decide: (state) => {
      const { node, before, isAgain } = admit(state, request, most);
      const given = before && givenBefore(before, now);
      if (isAgain && node !== undefined && given !== undefined) return settled({ node, chain: given });
      const value: Node =
        isAgain && node !== undefined
          ? { ...node, certificates: addCertificate(node.certificates, certificate, now) }
          : {
              name,
              spiffeId,
              enrolledAt: now,
              certificates: [certificate],
              refused: refusedNow(node, certificate, now),
            };
      const enrolment: ClusterEnrolment = {
        ...{ node: name, cluster, kubernetesNode, enrolledAt: value.enrolledAt, keyHash },
        ...(kubernetesUid !== undefined && { kubernetesUid }),
        svid: { notBefore, notAfter: certificate.notAfter, certificateChain: [...chain] },
        usedTokens: usedNow(before, request, now),
      };
      return {
        compares: [state.unchanged(nodeKey), state.unchanged(enrolmentKey)],
        operations: [put(nodeKey, nodeSchema, value), put(enrolmentKey, clusterEnrolmentSchema, enrolment)],
        answer: { node: value, chain },
      };
    },
  };
};

/**
 * The SVIDs of earlier enrolments. No person stands behind each of these, so that who loses its state again and again has to
 * wait.
 */
const refusedNow = (node: Node | undefined, certificate: IssuedSvid['certificate'], now: number) => {
  const earlier = unexpired([...(node?.refused ?? []), ...(node?.certificates ?? [])], now);
  mustNotHurry(earlier, certificate, now);
  return earlier.slice(-MAX_CERTIFICATES * 4);
};

const usedNow = (
  before: ClusterEnrolment | undefined,
  { node, tokenHash: hash, tokenExpiresAt: expiresAt }: ClusterNode,
  now: number,
): ClusterEnrolment['usedTokens'] => {
  const others = (before?.usedTokens ?? []).filter((one) => one.expiresAt > now && one.hash !== hash);
  if (others.length >= MAX_USED_TOKENS) {
    throw new Vl3Error(
      'resource-exhausted',
      `node "${node}" has enrolled ${others.length} times in a short while: it can again when the tokens that it used have expired`,
    );
  }
  return [...others, { hash, expiresAt }];
};

/**
 * Forgets nodes that a cluster named and took away again: their SVIDs have expired, they are on no network, and no admin
 * deleted them. A transaction's worth at a time; answers their names.
 */
export const forgetClusterNodes = (now: number): Rule<readonly string[]> => ({
  reads: [one(keys.domain), all(below.clusterEnrolments), all(below.nodes), all(below.members())],
  decide: (state) => {
    // Its nodes may have SVIDs that it does not know.
    if (recoveryOf(state) !== undefined) return settled([]);
    const busy = new Set(state.members().map(({ value }) => value.node));
    const gone = state.clusterEnrolments().flatMap(({ value: { node: name, enrolledAt, usedTokens } }) => {
      const node = state.node(name)?.value;
      const isOver =
        node !== undefined &&
        node.deletedAt === undefined &&
        node.enrolledAt === enrolledAt &&
        unexpired([...node.certificates, ...node.refused], now).length === 0 &&
        usedTokens.every(({ expiresAt }) => expiresAt <= now);
      return isOver && !busy.has(name) ? [name] : [];
    });
    const doomed = gone.slice(0, Math.floor(MAX_OPERATIONS / 3));
    const keysOf = (name: string) => [keys.node(name), keys.clusterEnrolment(name), keys.sighting(name)];
    return {
      compares: doomed.flatMap((name) => [
        state.unchanged(keys.node(name)),
        state.unchanged(keys.clusterEnrolment(name)),
      ]),
      operations: doomed.flatMap(keysOf).map((key) => ({ kind: 'delete', key })),
      answer: doomed,
    };
  },
});
