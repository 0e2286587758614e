// A node as a network's home calls it (foreign-key.ts), to and from its domain and name: which bundle verifies what it signs.

import { isNodeKey, nodeNameOf } from './foreign-key.ts';

export interface NodeId {
  readonly node: string;
  readonly trustDomain: string;
}

export const nodeKey = (home: string, { node, trustDomain }: NodeId): string =>
  trustDomain === home ? node : `${node}@${trustDomain}`;

/** Undefined: it is no key, or not the one that this home uses. */
export const readNodeKey = (home: string, key: string): NodeId | undefined => {
  if (!isNodeKey(key)) return undefined;
  const { node, trustDomain } = nodeNameOf(key);
  return trustDomain === home ? undefined : { node, trustDomain: trustDomain ?? home };
};
