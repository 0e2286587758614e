// What a node of a Kubernetes cluster is called in the domain: `<cluster>-<node>` where that is a DNS label, else the node's
// first label, cut, and the start of a hash of all of it. No two clusters' nodes are ever called alike, since no cluster's
// name begins another's; two of one cluster may be, by malice, and then the second is refused (cluster-enrolment-rules.ts).

import { sha256 } from '@noble/hashes/sha2.js';
import { Vl3Error } from '../error.ts';
import { isName } from './spiffe-id.ts';

/** Leaves room for a node's name. */
export const MAX_CLUSTER_NAME = 30;
const MAX_LABEL = 63;
const HASH_BYTES = 4;

/** RFC 1123 subdomain, as Kubernetes has it for nodes. */
const SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

export const isClusterName = (text: string): boolean => text.length <= MAX_CLUSTER_NAME && isName(text);

/** True for what Kubernetes may call a node. */
export const isKubernetesNodeName = (text: string): boolean => SUBDOMAIN.test(text);

/** `node`: as Kubernetes calls it. Throws Vl3Error('invalid-argument'). */
export const clusterNodeName = (cluster: string, node: string): string => {
  if (!isClusterName(cluster) || !isKubernetesNodeName(node))
    throw new Vl3Error('invalid-argument', 'these are no names of a cluster and of a Kubernetes node');
  const plain = `${cluster}-${node}`;
  if (isName(plain)) return plain;
  const hash = hex(sha256(new TextEncoder().encode(node)).subarray(0, HASH_BYTES));
  const room = MAX_LABEL - `${cluster}--${hash}`.length;
  const [label = ''] = node.split('.');
  return `${cluster}-${label.slice(0, room).replace(/-+$/, '')}-${hash}`;
};

/** Two of these names by which nodes of different clusters might be called alike; undefined: there are none. */
export const clashingClusters = (names: readonly string[]): readonly [string, string] | undefined => {
  const sorted = names.map((name) => `${name}-`).sort();
  for (const [i, name] of sorted.entries()) {
    const next = sorted[i + 1];
    // What begins with a name stands behind it without a gap.
    if (next?.startsWith(name)) return [name.slice(0, -1), next.slice(0, -1)];
  }
  return undefined;
};

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
