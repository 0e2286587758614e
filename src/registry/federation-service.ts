// FederationService: an admin invites, accepts, lists and revokes; a partner's registry presents itself with an invitation's
// secret, and asks whether the federation goes on. Access was checked before; secrets are in no log.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import { type HeldBundle, judgeBundle } from '../../native-free/federation/bundle-rules.ts';
import {
  type FederationConstraints,
  federationConstraints,
} from '../../native-free/federation/constraints.ts';
import { type BundleEndpoint, bundleEndpoint } from '../../native-free/federation/endpoint.ts';
import {
  formatInvitation,
  type Invitation,
  invitationProblem,
  parseInvitation,
} from '../../native-free/federation/invitation.ts';
import { formatHostPort } from '../../native-free/host-port.ts';
import { formatPrefix } from '../../native-free/ipam/prefix.ts';
import {
  checkInvitation,
  FederationRefused,
  invitePartner,
  notePartner,
  revokePartner,
  takeInvitation,
} from '../../native-free/registry/federation-rules.ts';
import { foreignDomainOf } from '../../native-free/registry/foreign-key.ts';
import { leasableOf } from '../../native-free/registry/foreign-rules.ts';
import { all, below, keys, one } from '../../native-free/registry/keys.ts';
import { FAMILIES } from '../../native-free/registry/lease-choice.ts';
import { check, type Network } from '../../native-free/registry/model.ts';
import { familyOf } from '../../native-free/registry/network-rules.ts';
import { recoveryOf } from '../../native-free/registry/recovery-rules.ts';
import { mustBeNetwork } from '../../native-free/registry/rules.ts';
import { parseTrustDomain } from '../../native-free/registry/spiffe-id.ts';
import {
  type FederationConstraints as ConstraintsMessage,
  type FederationService,
  Partner_State as State,
} from '../api/generated/vl3/v1/federation_pb.js';
import { introduce, locationOf } from '../federation/introduction.ts';
import { handleOf, invitationKey, proveAcceptance, secretHashOf } from '../federation/invitation-proof.ts';
import { mustBeSigned, successionProblem } from '../federation/succession.ts';
import { fingerprint } from '../identity/certificate.ts';
import { parseRegistryAddress } from '../identity/registry-address.ts';
import { decodeSpiffeBundle } from '../identity/spiffe-bundle.ts';
import { callerKey } from './caller.ts';
import type { RegistryContext } from './context.ts';
import type { KnownPartner } from './partners.ts';
import { removeStrayMembers } from './stray-members.ts';

const SECRET_BYTES = 32;
const MAX_REGISTRIES = 16;
const ACCEPT_TIMEOUT_MS = 30_000;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bundleHashOf = (prints: readonly string[]): string =>
  createHash('sha256')
    .update([...prints].sort().join())
    .digest('hex');

const HASH = /^[0-9a-f]{64}$/;

const constraintsOf = (trustDomain: string, message: ConstraintsMessage | undefined): FederationConstraints =>
  check(
    federationConstraints,
    {
      trustDomain,
      networks: message?.networks ?? [],
      names: message?.names ?? [],
      prefixes: message?.prefixes ?? [],
    },
    'constraints',
  );

const constraintsMessage = ({ networks, names, prefixes }: FederationConstraints) => ({
  networks: [...networks],
  names: [...names],
  prefixes: [...prefixes],
});

export const federationService = (context: RegistryContext): ServiceImpl<typeof FederationService> => {
  const { transactor, partners, partnerLinks, signer, now, logger, counters } = context;
  const { trustDomain: home } = signer.trustBundle;

  const caFingerprints = (): string[] => signer.trustBundle.certificates.map((one) => hex(fingerprint(one)));
  const own = () => ({ trustDomain: home, caFingerprints: caFingerprints() });

  const changeBy = (handler: HandlerContext) => {
    const caller = handler.values.get(callerKey);
    if (caller.role === 'anonymous') throw new Vl3Error('permission-denied', 'this call is for admins');
    return { admin: caller.name, now: now() };
  };

  const mustBeOther = (domain: string): void => {
    parseTrustDomain(domain);
    if (domain === home)
      throw new Vl3Error('invalid-argument', `${home} is this domain itself, which needs no federation`);
  };

  const message = (known: KnownPartner, nodes: ReadonlyMap<string, number>) => {
    const { federation, held } = known;
    const { trustDomain, activeSince, admits, accepted, invitation, registries, endpoint } = federation;
    const since = activeSince ?? invitation?.createdAt;
    const state =
      activeSince === undefined
        ? State.INVITED
        : federation.revokedThereAt === undefined
          ? State.ACTIVE
          : State.REVOKED_THERE;
    return {
      trustDomain,
      state,
      ...(since !== undefined && { since: timestampFromMs(since) }),
      ...(admits !== undefined && { admits: constraintsMessage(admits) }),
      ...(accepted !== undefined && { accepted: constraintsMessage(accepted) }),
      registries,
      ...(endpoint !== undefined && { bundleLocation: locationOf(endpoint) }),
      caFingerprints: held?.bundle.certificates.map((one) => one.fingerprint) ?? [],
      bundleSequence: held?.bundle.sequence?.toString() ?? '',
      ...(held !== undefined && { bundleConfirmedAt: timestampFromMs(held.confirmedAt) }),
      isBundleExpired: partners.isExpired(known),
      bundleProblem: partnerLinks.problemOf(trustDomain) ?? '',
      ...(invitation !== undefined && {
        invitationExpiresAt: timestampFromMs(invitation.expiresAt),
        invitation: constraintsMessage(invitation.constraints),
      }),
      nodes: nodes.get(trustDomain) ?? 0,
    };
  };

  const nodesByDomain = async (): Promise<Map<string, number>> => {
    const state = await transactor.read([all(below.members())]);
    const nodes = new Set(state.members().map(({ value }) => value.node));
    const counts = new Map<string, number>();
    for (const node of nodes) {
      const domain = foreignDomainOf(node);
      if (domain !== undefined) counts.set(domain, (counts.get(domain) ?? 0) + 1);
    }
    return counts;
  };

  /** A signer apart decides for itself whether these are the domain's CAs. */
  const vouch = async ({ bundle }: HeldBundle, proof?: Uint8Array): Promise<void> => {
    if (signer.putPartner === undefined) return;
    await signer.putPartner(bundle.trustDomain, mustBeSigned(bundle), proof);
  };

  const messageOf = async (domain: string) => {
    await partners.reload();
    const known = partners.of(domain);
    if (known === undefined) throw new Vl3Error('aborted', `the federation with ${domain} ended meanwhile`);
    return message(known, await nodesByDomain());
  };

  return {
    async invitePartner({ trustDomain, constraints, ttl, secretHash, handle }, handler) {
      mustBeOther(trustDomain);
      const isMade = HASH.test(secretHash) && HASH.test(handle);
      if (signer.isApart !== isMade)
        throw new Vl3Error(
          'failed-precondition',
          signer.isApart
            ? 'with the signer apart (`vl3 ca run`) the invitation is made by `vl3 federation invite` with a credential that names the signer (`vl3 ca admin` made it)'
            : 'secret_hash, handle: the signer is not apart, and the registry makes the invitation itself',
        );
      const wanted = constraintsOf(trustDomain, constraints);
      const state = await transactor.read([all(below.networks)]);
      for (const network of wanted.networks) mustLeave(mustBeNetwork(state, network).value, wanted);
      const secret = new Uint8Array(randomBytes(SECRET_BYTES));
      const rule = invitePartner(
        wanted,
        {
          ...(isMade ? { secretHash, handle } : { secretHash: secretHashOf(secret) }),
          ...(ttl !== undefined && { ttlMs: durationMs(ttl) }),
        },
        changeBy(handler),
      );
      const { answer } = await transactor.run(rule);
      const { registries, bundleEndpoint: endpoint } = context.ownAddress();
      const invitation = isMade
        ? ''
        : formatInvitation({
            trustDomain: home,
            registries,
            endpoint,
            caFingerprints: signer.trustBundle.certificates.map(fingerprint),
            secret,
            expiresAt: answer.invitation?.expiresAt ?? now(),
            constraints: wanted,
          });
      logger.info({ trustDomain, constraints: wanted }, 'partner invited');
      const partner = await messageOf(trustDomain);
      return {
        ...{ partner, invitation, ...own() },
        registries: [...registries],
        bundleLocation: locationOf(endpoint),
      };
    },

    async acceptInvitation({ invitation: text, secretHash, handle, proof }, handler) {
      const invitation = parseInvitation(text);
      const { trustDomain, constraints, endpoint, registries, secret } = invitation;
      const problem = invitationProblem(invitation, home, now());
      if (problem !== undefined) throw new Vl3Error('failed-precondition', problem);
      mustBeOfSame(partners.of(trustDomain), invitation);
      const isTakenOut = HASH.test(secretHash) && HASH.test(handle);
      const address = context.ownAddress();
      const claim = { home: trustDomain, trustDomain: home, caFingerprints: caFingerprints() };
      const proven = isTakenOut
        ? { secretHash, proof }
        : { secretHash: secretHashOf(secret), proof: proveAcceptance(invitationKey(secret), claim) };
      const held = await introduce(
        invitation,
        {
          trustDomain: home,
          bundle: context.ownBundle.text,
          endpoint: address.bundleEndpoint,
          registries: address.registries,
          proven: invitation.isProven ? proven : undefined,
        },
        { now, signal: AbortSignal.any([handler.signal, AbortSignal.timeout(ACCEPT_TIMEOUT_MS)]) },
      );
      await vouch(held);
      await transactor.run(
        notePartner(
          {
            ...{ trustDomain, held, endpoint, registries, constraints },
            handle: isTakenOut ? handle : handleOf(secret),
          },
          changeBy(handler),
        ),
      );
      logger.info({ trustDomain, constraints }, 'invitation accepted');
      return { partner: await messageOf(trustDomain), ...own() };
    },

    async listPartners() {
      await partners.reload();
      const nodes = await nodesByDomain();
      return { partners: partners.all().map((known) => message(known, nodes)), ...own() };
    },

    async revokePartner({ trustDomain }, handler) {
      mustBeOther(trustDomain);
      await transactor.run(revokePartner(trustDomain, changeBy(handler)));
      logger.info({ trustDomain }, 'federation revoked');
      // First what concerns peers: nobody of the domain is let in any more either way.
      const nodes = await removeStrayMembers({ transactor, now, logger });
      await partners.reload();
      return { nodes };
    },

    async federate(request, handler) {
      const { secret, trustDomain, bundle, bundleLocation, registries, proof } = request;
      const { address } = handler.values.get(callerKey);
      try {
        const isProven = signer.isApart;
        if (isProven ? !HASH.test(request.secretHash) : secret.length !== SECRET_BYTES)
          throw new FederationRefused('malformed', 'secret: it is not that of an invitation');
        mustBeOther(trustDomain);
        const secretHash = isProven ? request.secretHash : secretHashOf(secret);
        const known = checkInvitation(trustDomain, secretHash, now());
        known.decide(await transactor.read(known.reads));
        const offered = decodeSpiffeBundle(bundle, trustDomain);
        const verdict = judgeBundle(undefined, offered, 'admin', now());
        const problem =
          verdict.kind === 'refused'
            ? verdict.message
            : offered.certificates.length === 0
              ? 'it has no CA'
              : successionProblem({}, offered, now());
        if (verdict.kind === 'refused' || problem !== undefined)
          throw new FederationRefused('malformed', `bundle: ${problem}`);
        const { held } = verdict;
        await vouch(held, proof);
        const rule = takeInvitation(
          {
            trustDomain,
            held,
            bundleHash: bundleHashOf(offered.certificates.map((one) => one.fingerprint)),
            endpoint: endpointOf(trustDomain, bundleLocation),
            registries: registriesOf(registries),
            handle: isProven ? undefined : handleOf(secret),
          },
          secretHash,
          now(),
        );
        const { answer } = await transactor.run(rule);
        await partners.reload();
        // What is narrower than before ends now.
        if (answer.isNew) await removeStrayMembers({ transactor, now, logger });
        logger.info({ trustDomain, address, isNew: answer.isNew }, 'partner has accepted its invitation');
        return { bundle: context.ownBundle.text };
      } catch (error) {
        if (error instanceof Vl3Error) {
          const reason = error instanceof FederationRefused ? error.reason : error.code;
          counters.countFederationRefusal(reason);
          logger.warn({ reason, address, trustDomain: trustDomain.slice(0, 128) }, 'federation refused');
        }
        throw error;
      }
    },

    async confirmFederation({ trustDomain, handle }) {
      parseTrustDomain(trustDomain);
      const state = await transactor.read([one(keys.domain), one(keys.federation(trustDomain))]);
      const federation = state.federation(trustDomain)?.value;
      const known = Buffer.from(federation?.handle ?? '', 'hex');
      const isFederated =
        federation?.activeSince !== undefined &&
        known.length > 0 &&
        known.length === handle.length &&
        timingSafeEqual(known, handle);
      return { isFederated, recovering: recoveryOf(state) !== undefined };
    },
  };
};

/** A node leases from each pool of a network: where it may lease from none, it could never join. */
const mustLeave = (network: Network, constraints: FederationConstraints): void => {
  for (const family of FAMILIES) {
    const of = familyOf(network, family);
    if (of === undefined || leasableOf(constraints, of)?.length !== 0) continue;
    throw new Vl3Error(
      'invalid-argument',
      `prefixes: none of them is in the pool ${formatPrefix(of.pool)} of network "${network.name}", from which each of its nodes leases: name one more`,
    );
  }
};

/** Whoever writes an invitation may name any domain in it, one that is a partner already among them: he would be that partner. */
const mustBeOfSame = (
  known: KnownPartner | undefined,
  { trustDomain, caFingerprints }: Pick<Invitation, 'trustDomain' | 'caFingerprints'>,
): void => {
  const held = known?.federation.activeSince === undefined ? [] : (known.held?.bundle.certificates ?? []);
  const named = caFingerprints.map(hex);
  if (held.length === 0 || held.some(({ fingerprint }) => named.includes(fingerprint))) return;
  throw new Vl3Error(
    'already-exists',
    `${trustDomain} is federated with already, by other CAs than the invitation names: ask there whether it has new ones; then revoke it first (\`vl3 federation revoke ${trustDomain}\`)`,
  );
};

const endpointOf = (
  trustDomain: string,
  location: { readonly url: string; readonly profile: string; readonly spiffeId: string } | undefined,
): BundleEndpoint => {
  if (location === undefined) throw new Vl3Error('invalid-argument', 'bundle_location: it is missing');
  const { url, profile, spiffeId } = location;
  return bundleEndpoint(trustDomain, { url, profile, ...(spiffeId !== '' && { spiffeId }) });
};

const registriesOf = (texts: readonly string[]): string[] => {
  if (texts.length === 0 || texts.length > MAX_REGISTRIES)
    throw new Vl3Error('invalid-argument', `registries: give 1 to ${MAX_REGISTRIES}`);
  return texts.map((text) => formatHostPort(parseRegistryAddress(text)));
};
