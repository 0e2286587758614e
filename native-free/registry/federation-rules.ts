// How a federation begins and ends: this domain invites and a partner accepts, or the other way round; either side lets in only
// what it invited. It ends in one step, and all that the partner's nodes have here goes after it. An invitation's secret works
// once, for one set of CAs. Bundles: federation/bundle-rules.ts.

import { Vl3Error } from '../error.ts';
import type { HeldBundle } from '../federation/bundle-rules.ts';
import { type FederationConstraints, networkProblem } from '../federation/constraints.ts';
import type { BundleEndpoint } from '../federation/endpoint.ts';
import { LogWriter, NO_LOG } from './admission-log.ts';
import type { LogEntry } from './admission-model.ts';
import {
  type Federation,
  federation as federationSchema,
  MAX_FEDERATIONS,
  type PartnerBundle,
  partnerBundle as partnerBundleSchema,
} from './federation-model.ts';
import { foreignDomainOf, nodeNameOf } from './foreign-key.ts';
import { all, below, keys, one } from './keys.ts';
import { endMembership, membershipReads } from './lease-rules.ts';
import { check, type Lease } from './model.ts';
import { mustIssue, recoveryOf } from './recovery-rules.ts';
import { put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import type { Operation, Plan } from './transaction.ts';

export const DEFAULT_INVITATION_MS = 24 * 60 * 60 * 1000;
export const MAX_INVITATION_MS = 30 * 24 * 60 * 60 * 1000;

/** Who does it, and when (unix ms). */
export interface FederationChange {
  readonly admin: string;
  readonly now: number;
}

/** Why an invitation did not let a domain in; counted and logged by reason. */
export class FederationRefused extends Vl3Error {
  readonly reason: 'unknown' | 'used' | 'expired' | 'malformed';

  constructor(reason: FederationRefused['reason'], message: string) {
    super(reason === 'malformed' ? 'invalid-argument' : 'permission-denied', message);
    this.name = 'FederationRefused';
    this.reason = reason;
  }
}

const federationReads = (domain: string) => [
  one(keys.domain),
  one(keys.federation(domain)),
  one(keys.partnerBundle(domain)),
  one(keys.logHead),
];

/** A federation as it becomes, with a line in the log. */
const changed = (
  state: State,
  value: Federation,
  bundle: PartnerBundle | undefined,
  line: Pick<LogEntry, 'kind' | 'admin' | 'definition'>,
  now: number,
): Pick<Plan<unknown>, 'compares' | 'operations'> => {
  const { trustDomain } = value;
  const log = new LogWriter(state.logHead()?.value ?? NO_LOG, now);
  log.add({ ...line, trustDomain });
  return {
    compares: [keys.federation(trustDomain), keys.logHead].map((key) => state.unchanged(key)),
    operations: [
      put(keys.federation(trustDomain), federationSchema, value),
      ...(bundle === undefined ? [] : [put(keys.partnerBundle(trustDomain), partnerBundleSchema, bundle)]),
      ...log.operations,
    ],
  };
};

/** `secretHash`: SHA-256 of a fresh secret, hex. What holds already goes on until the partner has taken the invitation. */
export const invitePartner = (
  constraints: FederationConstraints,
  {
    secretHash,
    ttlMs = DEFAULT_INVITATION_MS,
    handle,
  }: { readonly secretHash: string; readonly ttlMs?: number; readonly handle?: string | undefined },
  { admin, now }: FederationChange,
): Rule<Federation> => {
  const { trustDomain } = constraints;
  if (!(ttlMs >= 1000 && ttlMs <= MAX_INVITATION_MS))
    throw new Vl3Error('invalid-argument', 'expires: use 1 second to 30 days');
  const key = keys.federation(trustDomain);
  return {
    reads: [...federationReads(trustDomain), all(below.federations)],
    decide: (state) => {
      mustHaveRoom(state, trustDomain);
      const before = state.federation(trustDomain)?.value;
      const invitation = {
        ...{ secretHash, createdAt: now, expiresAt: now + ttlMs, constraints },
        ...(handle !== undefined && { handle }),
      };
      const value = check(
        federationSchema,
        { registries: [], ...before, trustDomain, invitation },
        'invitation',
      );
      const definition = JSON.stringify(constraints).slice(0, 8192);
      const plan = changed(state, value, undefined, { kind: 'partner-invited', admin, definition }, now);
      return {
        ...plan,
        compares: [...plan.compares, state.unchanged(key)],
        answer: value,
      };
    },
  };
};

const mustHaveRoom = (state: State, trustDomain: string): void => {
  if (state.federation(trustDomain) !== undefined || state.federations().length < MAX_FEDERATIONS) return;
  throw new Vl3Error(
    'resource-exhausted',
    `there are ${MAX_FEDERATIONS} federations and invitations, which is the most: revoke one (\`vl3 federation revoke\`)`,
  );
};

/** What a partner says of itself when it takes an invitation. Everything was read and checked before. */
export interface Introduction {
  readonly trustDomain: string;
  readonly held: HeldBundle;
  /** SHA-256 over the fingerprints of its CAs, hex. */
  readonly bundleHash: string;
  readonly endpoint: BundleEndpoint;
  readonly registries: readonly string[];
  /** Undefined: as the invitation has it. */
  readonly handle: string | undefined;
}

/** Asks whether the secret is that of an open invitation, before anything else of the caller is looked at. */
export const checkInvitation = (trustDomain: string, secretHash: string, now: number): Rule<void> => ({
  reads: [one(keys.federation(trustDomain))],
  decide: (state) => {
    openInvitation(state, trustDomain, secretHash, now);
    return settled(undefined);
  },
});

/** Undefined: it was taken before with this secret. */
const openInvitation = (state: State, trustDomain: string, secretHash: string, now: number) => {
  const federation = state.federation(trustDomain)?.value;
  const { invitation, taken } = federation ?? {};
  if (invitation?.secretHash === secretHash) {
    if (invitation.expiresAt > now) return invitation;
    throw new FederationRefused(
      'expired',
      `the invitation of ${trustDomain} has expired: ask for another (\`vl3 federation invite ${trustDomain}\`)`,
    );
  }
  if (taken?.secretHash === secretHash) return undefined;
  throw new FederationRefused(
    'unknown',
    'the invitation is not one of this registry, or none that counts any more: ask for another (`vl3 federation invite`)',
  );
};

/** Uses the invitation up. The same domain with the same CAs may ask again, and changes nothing. */
export const takeInvitation = (
  { trustDomain, held, bundleHash, endpoint, registries, handle }: Introduction,
  secretHash: string,
  now: number,
): Rule<{ readonly isNew: boolean; readonly value: Federation }> => ({
  reads: federationReads(trustDomain),
  decide: (state) => {
    const before = state.federation(trustDomain)?.value;
    const invitation = openInvitation(state, trustDomain, secretHash, now);
    if (before === undefined || invitation === undefined) {
      if (before !== undefined && before.taken?.bundleHash === bundleHash)
        return settled({ isNew: false, value: before });
      throw new FederationRefused(
        'used',
        `the invitation of ${trustDomain} was used already, by other CAs: ask for another, and whether it was you`,
      );
    }
    mustIssue(state, 'federation');
    const { invitation: _, revokedThereAt: __, ...rest } = before;
    const value: Federation = {
      ...rest,
      activeSince: before.activeSince ?? now,
      admits: invitation.constraints,
      endpoint,
      registries: [...registries],
      taken: { secretHash, bundleHash },
      handle: handle ?? invitation.handle,
    };
    const line = { kind: 'partner-joined', definition: JSON.stringify(invitation.constraints) } as const;
    return { ...changed(state, value, stored(held), line, now), answer: { isNew: true, value } };
  },
});

/** This domain has accepted an invitation: the inviting domain's bundle was taken from its registry. */
export const notePartner = (
  {
    trustDomain,
    held,
    endpoint,
    registries,
    constraints,
    handle,
  }: Omit<Introduction, 'bundleHash'> & { readonly constraints: FederationConstraints },
  { admin, now }: FederationChange,
): Rule<Federation> => ({
  reads: [...federationReads(trustDomain), all(below.federations)],
  decide: (state) => {
    mustHaveRoom(state, trustDomain);
    const before = state.federation(trustDomain)?.value;
    const { revokedThereAt: _, ...rest } = before ?? {};
    const value: Federation = {
      ...rest,
      trustDomain,
      activeSince: before?.activeSince ?? now,
      accepted: constraints,
      endpoint,
      registries: [...registries],
      ...(handle !== undefined && { handle }),
    };
    const line = {
      kind: 'partner-accepted',
      admin,
      definition: JSON.stringify(constraints).slice(0, 8192),
    } as const;
    return { ...changed(state, value, stored(held), line, now), answer: value };
  },
});

const stored = ({ bundle, confirmedAt }: HeldBundle): PartnerBundle => ({
  trustDomain: bundle.trustDomain,
  text: bundle.text,
  confirmedAt,
});

/** What its endpoint says; nothing, when the federation has ended meanwhile. Answers whether it was kept. */
export const keepBundle = (held: HeldBundle): Rule<boolean> => {
  const { trustDomain } = held.bundle;
  const [key, bundleKey] = [keys.federation(trustDomain), keys.partnerBundle(trustDomain)];
  return {
    reads: [one(key), one(bundleKey)],
    decide: (state) => {
      if (state.federation(trustDomain)?.value.activeSince === undefined) return settled(false);
      return {
        compares: [state.unchanged(key), state.unchanged(bundleKey)],
        operations: [put(bundleKey, partnerBundleSchema, stored(held))],
        answer: true,
      };
    },
  };
};

/** What the partner's registry says of it: whether there still is a federation. Answers whether that is news. */
export const noteStanding = (trustDomain: string, isFederated: boolean, now: number): Rule<boolean> => {
  const key = keys.federation(trustDomain);
  return {
    reads: [one(key)],
    decide: (state) => {
      const before = state.federation(trustDomain)?.value;
      if (before === undefined || isFederated === (before.revokedThereAt === undefined))
        return settled(false);
      const { revokedThereAt: _, ...rest } = before;
      const value = isFederated ? rest : { ...before, revokedThereAt: now };
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, federationSchema, value)],
        answer: true,
      };
    },
  };
};

/** From here on nobody of the domain is anybody here. `removeForeignMember` takes away what is left of its nodes. */
export const revokePartner = (trustDomain: string, { admin, now }: FederationChange): Rule<Federation> => ({
  reads: federationReads(trustDomain),
  decide: (state) => {
    const before = state.federation(trustDomain)?.value;
    if (before === undefined)
      throw new Vl3Error(
        'not-found',
        `there is no federation with ${trustDomain}, nor an invitation: see \`vl3 federation list\``,
      );
    const log = new LogWriter(state.logHead()?.value ?? NO_LOG, now);
    log.add({ kind: 'partner-revoked', trustDomain, admin });
    const key = keys.federation(trustDomain);
    return {
      compares: [state.unchanged(key), state.unchanged(keys.logHead)],
      operations: [
        { kind: 'delete', key },
        { kind: 'delete', key: keys.partnerBundle(trustDomain) },
        ...log.operations,
      ],
      answer: before,
    };
  },
});

/** Members of other domains that may not be: their federation has ended, or its constraints leave the network out. */
export const strayMembers: Rule<readonly { readonly network: string; readonly node: string }[]> = {
  reads: [all(below.federations), all(below.members())],
  decide: (state) => {
    const federations = new Map(state.federations().map(({ value }) => [value.trustDomain, value]));
    const strays = state.members().filter(({ value }) => isStray(federations, value));
    return settled(strays.map(({ value: { network, node } }) => ({ network, node })));
  },
};

const isStray = (
  federations: ReadonlyMap<string, Federation>,
  { network, node }: { readonly network: string; readonly node: string },
): boolean => {
  const domain = foreignDomainOf(node);
  if (domain === undefined) return false;
  const { activeSince, admits } = federations.get(domain) ?? {};
  return activeSince === undefined || admits === undefined || networkProblem(admits, network) !== undefined;
};

/** Ends one membership that `strayMembers` named, if it still is one of those. Its line in the log names what was attached. */
export const removeForeignMember = (network: string, node: string, now: number): Rule<readonly Lease[]> => {
  const { node: name, trustDomain = '' } = nodeNameOf(node);
  return {
    reads: [
      ...membershipReads(network, node),
      one(keys.logHead),
      one(keys.domain),
      one(keys.liveness(node)),
      one(keys.sighting(node)),
      all(below.members()),
      all(below.attachments(network, node)),
    ],
    decide: (state) => {
      const federation = state.federation(trustDomain)?.value;
      const federations = new Map(federation === undefined ? [] : [[trustDomain, federation]]);
      const isMember = state.member(network, node) !== undefined;
      if (!isMember || !isStray(federations, { network, node })) return settled([]);
      // Nothing is withdrawn by a registry that does not know all that it knew.
      if (recoveryOf(state) !== undefined && federation !== undefined) return settled([]);
      const log = new LogWriter(state.logHead()?.value ?? NO_LOG, now);
      const attached = state.attachments(network, node).length;
      const definition = JSON.stringify({ attachments: attached });
      log.add({ kind: 'partner-node-removed', network, trustDomain, node: name, definition });
      const plan = endMembership(state, network, node, now);
      const isLast = !state.members().some(({ value }) => value.node === node && value.network !== network);
      const last: Operation[] = isLast
        ? [
            { kind: 'delete', key: keys.liveness(node) },
            { kind: 'delete', key: keys.sighting(node) },
          ]
        : [];
      return {
        compares: [
          ...plan.compares,
          state.unchanged(keys.logHead),
          state.unchanged(keys.federation(trustDomain)),
        ],
        operations: [...plan.operations, ...log.operations, ...last],
        answer: plan.answer,
      };
    },
  };
};
