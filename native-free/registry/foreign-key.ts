// What the store calls a node of another domain: `<node>@<domain>`. No name of a node has an '@', so that neither can be taken
// for the other. How readers tell them apart is node-key.ts.

import { isName, isTrustDomain } from './spiffe-id.ts';

export interface NodeName {
  readonly node: string;
  /** Undefined: the home domain's. */
  readonly trustDomain: string | undefined;
}

export const foreignKey = (node: string, trustDomain: string): string => `${node}@${trustDomain}`;

/** Of a key that is one. */
export const nodeNameOf = (key: string): NodeName => {
  const at = key.indexOf('@');
  return at < 0
    ? { node: key, trustDomain: undefined }
    : { node: key.slice(0, at), trustDomain: key.slice(at + 1) };
};

/** The other domain; undefined: it is a node of the home domain. */
export const foreignDomainOf = (key: string): string | undefined => nodeNameOf(key).trustDomain;

export const isNodeKey = (key: string): boolean => {
  const { node, trustDomain } = nodeNameOf(key);
  return isName(node) && (trustDomain === undefined || isTrustDomain(trustDomain));
};
