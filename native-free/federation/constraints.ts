// What a partner may bring, whoever signs it: from which networks, under which names, from which prefixes. An identity, a name or
// an address outside is refused. Set by the inviting domain's admin, carried in the invitation so that the partner's admin sees
// it, and kept with the federation. Not here: admission, which still says who of the partner's is let in.

import { z } from 'zod';
import { formatPrefix, type Prefix, parsePrefix, prefixCovers } from '../ipam/prefix.ts';
import { isName } from '../names/name.ts';
import { name, prefix } from '../registry/model.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';

export const MAX_CONSTRAINED_NETWORKS = 16;
const MAX_NAMES = 16;
const MAX_PREFIXES = 16;

const distinct = (list: readonly string[]): boolean => new Set(list).size === list.length;
const TWICE = 'names one twice';

export const federationConstraints = z.strictObject({
  /** The one domain that it is for. */
  trustDomain: z.string().refine(isTrustDomain, 'is not a trust domain'),
  /** That its nodes may ask for; which of its workloads are admitted is up to the networks' rules. */
  networks: z.array(name).min(1).max(MAX_CONSTRAINED_NETWORKS).refine(distinct, TWICE),
  /** Its workloads are called one of these, or something below one; none: it names nothing. */
  names: z
    .array(
      z
        .string()
        .max(253)
        .refine(isName, 'is not a name: use labels of lowercase letters, digits and inner hyphens'),
    )
    .max(MAX_NAMES)
    .refine(distinct, TWICE),
  /** Its nodes' addresses on the networks lie in these; none: in whatever the networks' pools give. */
  prefixes: z.array(prefix).max(MAX_PREFIXES).refine(distinct, TWICE),
});
export type FederationConstraints = z.infer<typeof federationConstraints>;

/** Why an identity of this domain is not the partner's; undefined: it is. */
export const domainProblem = ({ trustDomain }: FederationConstraints, asked: string): string | undefined =>
  asked === trustDomain ? undefined : `it is of ${asked}, and the federation is with ${trustDomain}`;

/** Why its nodes may not ask for the network; undefined: they may. */
export const networkProblem = (
  { trustDomain, networks }: FederationConstraints,
  asked: string,
): string | undefined =>
  networks.includes(asked)
    ? undefined
    : `network "${asked}" is not among those of the federation with ${trustDomain} (${networks.join(', ')})`;

/** Whether a name is one of these, or below one. */
export const isBelowOne = (asked: string, names: readonly string[]): boolean =>
  names.some((one) => asked === one || asked.endsWith(`.${one}`));

/** Why its workload may not be called that, below the network's name; undefined: it may. */
export const nameProblem = (
  { trustDomain, names }: FederationConstraints,
  asked: string,
): string | undefined =>
  isBelowOne(asked, names)
    ? undefined
    : `"${asked}" is no name for workloads of ${trustDomain}: ${names.length === 0 ? 'it may name none' : `they end with ${names.join(', ')}`}`;

/** Why its nodes may not have addresses of the prefix; undefined: they may. */
export const prefixProblem = (
  { trustDomain, prefixes }: FederationConstraints,
  asked: Prefix,
): string | undefined =>
  prefixes.length === 0 || prefixes.some((one) => prefixCovers(parsePrefix(one), asked))
    ? undefined
    : `${formatPrefix(asked)} is outside of what ${trustDomain} may have (${prefixes.join(', ')})`;
