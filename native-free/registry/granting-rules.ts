// Grants follow from rules, leases and attachments: what a node is to be granted, whether what it has been granted still says
// so and has long enough to go, and whether what was signed meanwhile is still true. Who signs, and when this is looked at,
// is up to whoever runs the registry.

import { admitsWholeNode } from '../admission/decision.ts';
import { ascending, type Grant, MAX_GRANTED_ADDRESSES, readGrant } from '../admission/grant.ts';
import { fromBase64 } from '../base64.ts';
import { nodeSubject } from './admission-decisions.ts';
import { type StoredGrant, storedGrant } from './admission-model.ts';
import { rulesIn } from './admission-rules.ts';
import { all, below, identityKey, keys, one } from './keys.ts';
import { heldBy } from './lease-rules.ts';
import { nextSequence } from './record.ts';
import { recoveryOf } from './recovery-rules.ts';
import { put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';

/** What its signer adds the validity to. */
export type GrantContent = Omit<Grant, 'trustDomain' | 'notBefore' | 'notAfter'>;

/** Whose grant it is, and who grants. */
export interface Granting {
  readonly network: string;
  /** As the store calls it. */
  readonly node: string;
  /** The home domain. */
  readonly trustDomain: string;
  readonly storeId: string;
  /** By a signer apart a grant is the node's lease as well. */
  readonly leases: boolean;
}

/** What is to be signed, and by which rules that was decided. */
export interface DueGrant {
  readonly content: GrantContent;
  readonly notAfter: number;
  readonly rulesetVersion: number | undefined;
}

const HOUR_MS = 60 * 60 * 1000;
/** Of a grant's term: with less than this left it is signed anew, long before an outage could outlast it. */
const RENEWED_AT = 6 / 7;

/** What is to be signed, if anything is; `signsUntil`: nothing that is signed now can hold for longer. */
export const dueGrant = (
  granting: Granting,
  { termMs, signsUntil }: { readonly termMs: number; readonly signsUntil: number },
  now: number,
): Rule<DueGrant | undefined> => ({
  reads: readsOf(granting),
  decide: (state) => {
    const { network, node } = granting;
    const content = contentOf(state, granting);
    if (content === undefined || recoveryOf(state) !== undefined) return settled(undefined);
    const present = state.grant(network, node)?.value;
    const held = present && readGrant(fromBase64(present.grant));
    const most = Math.min(termMs, signsUntil - now);
    if (held !== undefined && hasTime(held, now, most) && sameContent(held, content))
      return settled(undefined);
    const before = state.member(network, node)?.value.grantSequence ?? 0;
    const sequence = nextSequence(Math.max(present?.sequence ?? 0, before), 0, now);
    const rulesetVersion = state.ruleset(network)?.value.version;
    return settled({ content: { ...content, sequence }, notAfter: now + termMs, rulesetVersion });
  },
});

/**
 * Keeps it, if the rules are those that it was decided by; else it is nobody's. Addresses that came or went meanwhile are the
 * next one's: a node that changes them all the time must not keep what it was granted before. False: another is to be signed.
 */
export const keepGrant = (granting: Granting, asked: DueGrant, signed: StoredGrant): Rule<boolean> => {
  const { network, node } = granting;
  const key = keys.grant(network, node);
  return {
    reads: readsOf(granting),
    decide: (state) => {
      const content = contentOf(state, granting);
      const present = state.grant(network, node)?.value.sequence ?? 0;
      if (content === undefined || recoveryOf(state) !== undefined || present >= signed.sequence)
        return settled(true);
      const { addresses } = asked.content;
      const isOfTheseRules = state.ruleset(network)?.value.version === asked.rulesetVersion;
      if (!isOfTheseRules || !sameContent(asked.content, { ...content, addresses })) return settled(false);
      return {
        compares: [key, keys.ruleset(network), keys.member(network, node)].map((one) => state.unchanged(one)),
        operations: [put(key, storedGrant, signed)],
        answer: true,
      };
    },
  };
};

const readsOf = ({ network, node, leases }: Granting) => [
  ...(leases ? [all(below.leases(network))] : []),
  one(keys.domain),
  one(keys.network(network)),
  one(keys.ruleset(network)),
  one(identityKey(node)),
  one(keys.member(network, node)),
  one(keys.clusterEnrolment(node)),
  one(keys.grant(network, node)),
  all(below.admissionRules(network)),
  all(below.attachments(network, node)),
];

/** What a node is to be granted; undefined: nothing is to be said of it. */
const contentOf = (
  state: State,
  { network, node, trustDomain, storeId, leases }: Granting,
): Omit<GrantContent, 'sequence'> | undefined => {
  const uid = state.network(network)?.value.uid;
  const subject = nodeSubject(state, node, trustDomain);
  const isForeign = subject.trustDomain !== trustDomain;
  const isVouchedFor = isForeign
    ? state.federation(subject.trustDomain) !== undefined
    : state.node(node) !== undefined;
  const isGone = state.member(network, node) === undefined || !isVouchedFor;
  const isDecided = state.ruleset(network) !== undefined;
  if (uid === undefined || isGone || !(isDecided || leases)) return undefined;
  const rules = rulesIn(state, network, trustDomain);
  const isWhole = !isForeign && admitsWholeNode(rules, subject) !== undefined;
  const addresses = isWhole ? [] : addressesOf(state, network, node);
  return {
    network,
    networkUid: uid,
    nodeDomain: subject.trustDomain,
    node: subject.node,
    isWhole,
    addresses,
    ...(leases && { prefixes: prefixesOf(state, network, node) }),
    storeId,
  };
};

const prefixesOf = (state: State, network: string, node: string): string[] =>
  heldBy(node, state.leases(network))
    .map(({ prefix }) => prefix)
    .sort(ascending);

/** As many as a grant holds: a node that attaches more must not keep what it has, nor hold up the others. */
const addressesOf = (state: State, network: string, node: string): string[] => {
  const all = state.attachments(network, node).flatMap(({ value }) => value.addresses);
  return [...new Set(all)].sort(ascending).slice(0, MAX_GRANTED_ADDRESSES);
};

/** Neither near its end, nor of a clock that was ahead: what such a one granted does not hold yet. */
const hasTime = ({ notBefore, notAfter }: Grant, now: number, termMs: number): boolean =>
  notBefore <= now && notAfter - now > termMs * RENEWED_AT && notAfter - now <= termMs + HOUR_MS;

/** Whether what was signed grants what was asked for. */
export const isAsAsked = (signed: Uint8Array, asked: GrantContent): boolean => {
  const granted = readGrant(signed);
  return granted?.isWhole === asked.isWhole && granted.addresses.join() === asked.addresses.join();
};

const sameContent = (a: Omit<GrantContent, 'sequence'>, b: Omit<GrantContent, 'sequence'>): boolean =>
  a.networkUid === b.networkUid &&
  a.isWhole === b.isWhole &&
  a.storeId === b.storeId &&
  a.prefixes?.join() === b.prefixes?.join() &&
  a.addresses.join() === b.addresses.join();
