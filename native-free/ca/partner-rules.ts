// Which other domains a signer apart knows, by which CAs, and what their nodes may bring. An admin invites one, or accepts its
// invitation; its CAs are first known by a proof of the invitation's secret, or by fingerprints in it, and from then on by
// what they themselves sign. No registry's word counts. Each function is one transaction of the ledger.

import { Vl3Error } from '../error.ts';
import { UNCONFIRMED_MS } from '../federation/bundle-rules.ts';
import { networkProblem, prefixProblem } from '../federation/constraints.ts';
import { parsePrefix } from '../ipam/prefix.ts';
import type { DocumentStore } from '../reconcile/document-store.ts';
import { foreignDomainOf } from '../registry/foreign-key.ts';
import { MAX_FOREIGN_LEASES, MAX_FOREIGN_NODES } from '../registry/foreign-rules.ts';
import { type KnownPartner, PARTNER, type SignedLease } from './ledger.ts';
import type { DomainStatement, VouchedPartner } from './statement.ts';

const MAX_PARTNERS = 256;
/** Of one partner's CAs, and of those of all: in base64. What the domain says to its nodes holds them beside all else. */
const MAX_SAID = 24_576;
const MAX_SAID_BY_ALL = 786_432;
/** It is said anew only so often: each time all nodes of the domain ask. */
const CONFIRMED_EVERY_MS = 24 * 60 * 60 * 1000;

const denied = (what: string) => (why: string) =>
  new Vl3Error('permission-denied', `the signer ${what}: ${why}`);
const refuse = denied('takes no partner by it');
const grantNothing = denied('grants nothing');

const put = (store: DocumentStore, domain: string, value: KnownPartner): void => {
  const isNew = store.get(PARTNER, domain) === undefined;
  if (isNew && store.list(PARTNER).length >= MAX_PARTNERS)
    throw new Vl3Error('resource-exhausted', `the signer knows ${MAX_PARTNERS} partners, which is the most`);
  store.put(PARTNER, domain, value);
};

/** What holds already goes on until the partner has taken the invitation; one that was made before counts no more. */
export const registerInvitation = (
  store: DocumentStore,
  invitation: NonNullable<KnownPartner['invitation']>,
): void =>
  store.transact(() => {
    const domain = invitation.constraints.trustDomain;
    put(store, domain, { ...store.get(PARTNER, domain), invitation });
  });

/** This domain accepts one of the domain's, which names its CAs. */
export const registerPins = (store: DocumentStore, domain: string, pins: readonly string[]): void =>
  store.transact(() => put(store, domain, { ...store.get(PARTNER, domain), pins: [...pins] }));

/** Nothing of it counts any more. */
export const withdrawPartner = (store: DocumentStore, domain: string): void => store.delete(PARTNER, domain);

export const partnerOf = (store: DocumentStore, domain: string): KnownPartner => {
  const known = store.get(PARTNER, domain);
  if (known !== undefined) return known;
  throw new Vl3Error(
    'permission-denied',
    `the signer does not know ${domain}: no admin told it (\`vl3 federation invite\` and \`accept\` do, by a credential that names the signer)`,
  );
};

/** The invitation by which a proof has to be checked. */
export const openInvitation = (
  store: DocumentStore,
  domain: string,
  now: number,
): NonNullable<KnownPartner['invitation']> => {
  const { invitation } = partnerOf(store, domain);
  if (invitation === undefined) throw refuse(`${domain} is not invited, or has taken its invitation`);
  if (invitation.expiresAt <= now) throw refuse(`the invitation of ${domain} has expired`);
  return invitation;
};

/** How it was known that the domain says this. */
export type Evidence = 'invitation' | 'pins' | 'known';

/** Keeps what the domain says of itself; signature and evidence were checked. */
export const notePartner = (
  store: DocumentStore,
  { trustDomain, authorities, sequence }: Pick<DomainStatement, 'trustDomain' | 'authorities' | 'sequence'>,
  evidence: Evidence,
  now: number,
): void =>
  store.transact(() => {
    const known = partnerOf(store, trustDomain);
    const { said, invitation, pins, ...kept } = known;
    const isSame = authorities.join() === said?.authorities.join();
    if (said !== undefined && (evidence === 'known' || overlaps(authorities, said.authorities))) {
      if (sequence < said.sequence || (sequence === said.sequence && !isSame))
        throw refuse(
          `what ${trustDomain} says is older than what is known of it: if it was restored from a backup, revoke it and begin anew`,
        );
    }
    if (said !== undefined && evidence === 'known') {
      if (isSame && Math.abs(now - said.confirmedAt) < CONFIRMED_EVERY_MS)
        return put(store, trustDomain, { ...known, said: { ...said, sequence } });
    }
    if (!isSame) mustHaveRoom(store, trustDomain, authorities);
    // Either is for once, and by an invitation it is known better than by pins from before.
    const next: KnownPartner = {
      ...kept,
      ...(invitation !== undefined &&
        (evidence === 'invitation' ? { admits: invitation.constraints } : { invitation })),
      ...(pins !== undefined && evidence === 'known' && { pins }),
      said: { authorities: [...authorities], sequence, confirmedAt: now },
    };
    put(store, trustDomain, next);
  });

/** Of a domain that lost all of its CAs, what is said under new ones is not older. */
const overlaps = (some: readonly string[], others: readonly string[]): boolean =>
  some.some((one) => others.includes(one));

const sizeOf = (authorities: readonly string[]): number =>
  authorities.reduce((sum, one) => sum + one.length, 0);

const mustHaveRoom = (store: DocumentStore, domain: string, authorities: readonly string[]): void => {
  const size = sizeOf(authorities);
  if (size > MAX_SAID)
    throw refuse(`the CAs of ${domain} are ${size} bytes in base64, and ${MAX_SAID} are the most`);
  const others = store
    .list(PARTNER)
    .reduce((sum, { name, value }) => sum + (name === domain ? 0 : sizeOf(value.said?.authorities ?? [])), 0);
  if (others + size > MAX_SAID_BY_ALL)
    throw new Vl3Error(
      'resource-exhausted',
      `the signer keeps ${MAX_SAID_BY_ALL} bytes of partners' CAs, which is the most: revoke a partner (\`vl3 federation revoke\`)`,
    );
};

/** By which the domain's nodes are verified now; undefined: they are not. */
export const countingAuthorities = ({ said }: KnownPartner, now: number): readonly string[] | undefined =>
  said === undefined || Math.abs(now - said.confirmedAt) >= UNCONFIRMED_MS ? undefined : said.authorities;

/** For the domain's own nodes. */
export const vouchedPartners = (store: DocumentStore): VouchedPartner[] =>
  store
    .list(PARTNER)
    .flatMap(({ name, value: { said } }) =>
      said === undefined
        ? []
        : [{ trustDomain: name, authorities: said.authorities, until: said.confirmedAt + UNCONFIRMED_MS }],
    )
    .sort((a, b) => (a.trustDomain < b.trustDomain ? -1 : 1));

export interface ForeignRequest {
  readonly network: string;
  /** `<node>@<domain>`. */
  readonly node: string;
  readonly prefixes: readonly string[];
  /** Of the network, those that have not ended. */
  readonly leases: readonly SignedLease[];
}

/** Throws Vl3Error('permission-denied') for what the node's domain may not have. */
export const mustBeAdmitted = (
  store: DocumentStore,
  { network, node, prefixes, leases }: ForeignRequest,
  now: number,
): void => {
  const domain = foreignDomainOf(node) ?? '';
  const known = partnerOf(store, domain);
  const { admits } = known;
  if (admits === undefined || countingAuthorities(known, now) === undefined)
    throw grantNothing(
      `${domain} has not accepted an invitation of this domain, or was not confirmed for a week: its nodes have nothing here`,
    );
  const problem =
    networkProblem(admits, network) ??
    prefixes.map((prefix) => prefixProblem(admits, parsePrefix(prefix))).find((one) => one !== undefined);
  if (problem !== undefined) throw grantNothing(problem);
  const others = leases.filter((one) => one.node !== node && foreignDomainOf(one.node) === domain);
  if (new Set(others.map((one) => one.node)).size >= MAX_FOREIGN_NODES)
    throw grantNothing(`${domain} has, or had lately, ${MAX_FOREIGN_NODES} nodes on network "${network}"`);
  for (const family of [4, 6]) {
    const own = prefixes.filter((prefix) => parsePrefix(prefix).family === family);
    if (own.length > MAX_FOREIGN_LEASES)
      throw grantNothing(`a node of another domain has at most ${MAX_FOREIGN_LEASES} IPv${family} prefixes`);
  }
};
