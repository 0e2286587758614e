// AgentService: what a node does for itself. Its name is the certificate's, never the request's.

import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import {
  type AnnouncedAttachment,
  putAttachments,
  putRecord,
  withdrawRecord,
} from '../../native-free/registry/announcement-rules.ts';
import { foreignDomainOf, nodeNameOf } from '../../native-free/registry/foreign-key.ts';
import { identityKey, keys, one } from '../../native-free/registry/keys.ts';
import type { ChoosePrefix } from '../../native-free/registry/lease-choice.ts';
import {
  joinNetwork,
  leasePrefix,
  leaveNetwork,
  releasePrefix,
} from '../../native-free/registry/lease-rules.ts';
import { check, name as nameSchema } from '../../native-free/registry/model.ts';
import { renew } from '../../native-free/registry/node-rules.ts';
import { decodeVerified, type SignedRecord, type VerifyRecord } from '../../native-free/registry/record.ts';
import { mustBeMember, mustBeNetwork, type Rule } from '../../native-free/registry/rules.ts';
import { TokenBuckets } from '../../native-free/token-buckets.ts';
import type { AgentService } from '../api/generated/vl3/v1/agent_pb.js';
import type { Attachment } from '../api/generated/vl3/v1/common_pb.js';
import type { SvidEvidence } from '../identity/signer.ts';
import { type Caller, callerKey } from './caller.ts';
import type { RegistryContext } from './context.ts';
import { issueSvid } from './issue.ts';
import { isRecovering, renewLeases, testifyRecords } from './lease-renewal.ts';
import { bundleMessage, leaseMessage, networkMessage, storedRecord } from './messages.ts';
import { putNodeNames } from './node-names.ts';
import { streamKey, Watches } from './watch-network.ts';

/**
 * Each announcement is written, and told to every watcher of its network. A node says all of it whenever something changed,
 * and again after a refusal: this is far more than pods come and go.
 */
const ANNOUNCEMENTS = { perSecond: 25, burst: 500 };
/** Of all nodes of one partner together: it has as many as it likes. */
const ANNOUNCEMENTS_OF_PARTNER = { perSecond: 100, burst: 2000 };
/**
 * Deciding on many attachments by many rules takes its time, in which nobody else is served: it counts as so many
 * announcements.
 */
const MS_AN_ANNOUNCEMENT = 10;

type NodeCaller = Exclude<Caller, { readonly role: 'anonymous' }>;

/** The node that calls, of this domain or another. Access was checked before; this only narrows the type. */
export const callingNode = (handler: HandlerContext): NodeCaller => {
  const caller = handler.values.get(callerKey);
  if (caller.role !== 'node' && caller.role !== 'foreign-node')
    throw new Vl3Error('permission-denied', 'this call is for nodes');
  return caller;
};

const announced = (attachment: Attachment): AnnouncedAttachment => ({
  id: attachment.id,
  workload: attachment.workload,
  addresses: attachment.addresses,
  interfaceName: attachment.interfaceName,
  labels: attachment.labels,
  ...(attachment.namespace !== '' && { namespace: attachment.namespace }),
  ...(attachment.serviceAccount !== '' && { serviceAccount: attachment.serviceAccount }),
  ...(attachment.attachedAt && { attachedAt: timestampMs(attachment.attachedAt) }),
});

/** Of what the calling node signed: by its own domain's bundle, and by no other. */
const verifierOf = ({ verifyRecord, signer }: RegistryContext, key: string): VerifyRecord => {
  const domain = foreignDomainOf(key) ?? signer.trustBundle.trustDomain;
  return (...signed) => {
    const signer = verifyRecord(...signed);
    return signer?.trustDomain === domain ? signer : undefined;
  };
};

/** Passes it on to a signer apart, where that decides by it. What it decides anew shows in the next grant. */
const attest = async (
  { signer, transactor }: RegistryContext,
  network: string,
  node: string,
  attestation: SignedRecord,
): Promise<void> => {
  if (signer.putAttestation === undefined) return;
  check(nameSchema, network, 'network');
  const isTouched = (await transactor.read([one(keys.ruleset(network))])).ruleset(network) !== undefined;
  if (isTouched) await signer.putAttestation(network, node, attestation);
};

/**
 * Lines of the log of decisions that a partner's nodes may cause: it holds ten thousand, and no partner shall push the others
 * out in a few minutes.
 */
const DECISIONS_OF_PARTNER = { perSecond: 0.5, burst: 4000 };

export const agentService = (context: RegistryContext): ServiceImpl<typeof AgentService> => {
  const { transactor, store, feed, heartbeats, signer, hearing, stamps, now, logger, terms } = context;
  const leaseTermMs = BigInt(terms.termMs);
  const watches = new Watches(context);
  const announcements = new TokenBuckets(ANNOUNCEMENTS);
  const announcementsOfPartners = new TokenBuckets(ANNOUNCEMENTS_OF_PARTNER);
  const decisionsOfPartners = new TokenBuckets(DECISIONS_OF_PARTNER);
  const mustNotFlood = (node: string): void => {
    const now = performance.now();
    const domain = foreignDomainOf(node);
    const isWithin = announcements.take(node, now);
    if (isWithin && (domain === undefined || announcementsOfPartners.take(domain, now))) return;
    context.counters.refusedAnnouncements += 1;
    throw new Vl3Error(
      'resource-exhausted',
      isWithin
        ? `the nodes of ${domain} announce too much, all together: their agents try again by themselves`
        : `node "${node}" announces more than ${ANNOUNCEMENTS.perSecond} times a second, or as much by what it announces: its agent tries again by itself`,
    );
  };
  /** The rule, whose node pays for the time that deciding takes. */
  const paid = <T>(node: string, rule: Rule<T>): Rule<T> => ({
    ...rule,
    decide: (state) => {
      const began = performance.now();
      try {
        return rule.decide(state);
      } finally {
        const now = performance.now();
        const worth = Math.floor((now - began) / MS_AN_ANNOUNCEMENT);
        const domain = foreignDomainOf(node);
        if (worth > 0) announcements.charge(node, now, worth);
        if (worth > 0 && domain !== undefined) announcementsOfPartners.charge(domain, now, worth);
      }
    },
  });
  /** Called only when something new is issued. */
  const choosePrefix: ChoosePrefix = (request) => {
    hearing.mustIssue();
    return context.choosePrefix(request);
  };
  return {
    async heartbeat({ agentVersion, storeId, revision, stamp }, handler) {
      const { role, name, address } = callingNode(handler);
      await hearing.hear(context, name, { storeId, revision, stamp });
      const isForeign = role === 'foreign-node';
      // A partner may make up as many names as it likes: what is on no network here is not noted.
      if (!isForeign || feed.view.isOnAnyNetwork(name))
        await heartbeats.beat(name, { agentVersion, observedAddress: address });
      return {
        observedAddress: address,
        registryTime: timestampFromMs(now()),
        storeId: store.identity,
        livenessTtlMs: heartbeats.ttlMs,
        leaseTermMs,
        recovering: await isRecovering(context),
        stamp: stamps.of(0),
        federationsVersion: isForeign ? '' : context.partners.version,
        statementSequence: isForeign ? 0n : BigInt(context.ownStatement.sequence),
      };
    },

    async listFederations() {
      const { partners } = context;
      const federations = partners.active().map((known) => ({
        trustDomain: known.federation.trustDomain,
        registries: [...known.federation.registries],
        bundle: known.held?.bundle.text ?? '',
        bundleSequence: known.held?.bundle.sequence?.toString() ?? '',
        isBundleExpired: partners.isExpired(known),
        networks: [...(known.federation.accepted?.networks ?? [])],
        names: [...(known.federation.accepted?.names ?? [])],
      }));
      return { federations, version: partners.version, recovering: await isRecovering(context) };
    },

    async renewSvid({ certificateRequest, proof }, handler) {
      const { name } = callingNode(handler);
      const evidence: SvidEvidence = proof === undefined ? { kind: 'none' } : { kind: 'renewal', proof };
      const svid = await issueSvid(signer, certificateRequest, name, evidence);
      await transactor.run(renew(name, svid.certificate, now()));
      logger.info({ node: name, notAfter: svid.certificate.notAfter }, 'SVID renewed');
      return { certificateChain: svid.chain, trustBundle: bundleMessage(signer.trustBundle) };
    },

    async joinNetwork({ network }, handler) {
      const { name } = callingNode(handler);
      const { answer } = await transactor.run(joinNetwork(network, name, now(), choosePrefix));
      logger.info(
        { node: name, network, prefixes: answer.leases.map(({ prefix }) => prefix) },
        'node joined',
      );
      return {
        network: networkMessage(
          answer.network,
          answer.networkRevision,
          (await transactor.read([one(keys.ruleset(network))])).ruleset(network)?.value,
        ),
        leases: answer.leases.map(leaseMessage),
        leaseTermMs,
        ...(answer.joinedAt > 0 && { joinedAt: timestampFromMs(answer.joinedAt) }),
      };
    },

    renewLeases: (request, handler) => renewLeases(context, callingNode(handler).name, request),

    testifyRecords: (request, handler) => testifyRecords(context, callingNode(handler).name, request),

    async leasePrefix({ network, family, requestId }, handler) {
      const { name } = callingNode(handler);
      const rule = leasePrefix({ network, node: name, family, requestId }, now(), choosePrefix);
      const { answer } = await transactor.run(rule);
      logger.info({ node: name, network, prefix: answer.prefix }, 'prefix leased');
      return { lease: leaseMessage(answer), leaseTermMs };
    },

    async releasePrefix({ network, prefix }, handler) {
      const { name } = callingNode(handler);
      await transactor.run(releasePrefix(network, name, prefix));
      logger.info({ node: name, network, prefix }, 'prefix released');
      return {};
    },

    async leaveNetwork({ network, joinedAt }, handler) {
      const { name } = callingNode(handler);
      const since = joinedAt === undefined ? 0 : timestampMs(joinedAt);
      const { answer } = await transactor.run(leaveNetwork(network, name, now(), since));
      logger.info({ node: name, network, freed: answer.map(({ prefix }) => prefix) }, 'node left');
      return {};
    },

    async putRecord({ network, record: signed }, handler) {
      const { name } = callingNode(handler);
      mustNotFlood(name);
      check(nameSchema, network, 'network');
      if (signed === undefined) throw new Vl3Error('invalid-argument', 'record: it is missing');
      const state = await transactor.read(
        [keys.network(network), keys.member(network, name), identityKey(name)].map(one),
      );
      // Before anything is said of the network.
      if (foreignDomainOf(name) !== undefined) mustBeMember(state, network, name);
      const { value } = mustBeNetwork(state, network);
      const expected = { network, networkUid: value.uid, home: signer.trustBundle.trustDomain };
      const decoded = decodeVerified(signed, verifierOf(context, name), now(), expected);
      if (decoded.kind === 'refused') {
        logger.warn({ node: name, network, reason: decoded.reason }, 'record refused');
        throw new Vl3Error('permission-denied', `record: ${decoded.message}`);
      }
      if (decoded.record.node !== nodeNameOf(name).node) {
        logger.warn({ node: name, network, reason: 'wrong-caller' }, 'record refused');
        throw new Vl3Error(
          'permission-denied',
          `record: it is of node "${decoded.record.node}", not "${name}"`,
        );
      }
      // Peers have one peer a key: whoever copies another's would take its place.
      const holder = feed.view.keyHolder(network, decoded.record.publicKey) ?? name;
      const isSquatted = foreignDomainOf(holder) !== undefined && foreignDomainOf(name) === undefined;
      if (isSquatted) {
        // Keys are no secret: a partner must not keep a node of the domain from using its own.
        logger.warn(
          { node: name, network, holder },
          "record of a partner's node withdrawn: its key is another's",
        );
        await transactor.run(withdrawRecord(network, holder, now()));
      } else if (holder !== name) {
        logger.warn({ node: name, network, holder, reason: 'key-of-another' }, 'record refused');
        throw new Vl3Error(
          'permission-denied',
          foreignDomainOf(name) === undefined
            ? `record: its public key is node "${holder}"'s: if that one is a copy, delete it; else detach what is on the network here, and attach it again`
            : "record: its public key is another node's: detach what is on the network here, and attach it again",
        );
      }
      const { answer, revision } = await transactor.run(
        putRecord(network, name, storedRecord(signed, decoded.record)),
      );
      return { revision: BigInt(answer ?? revision) };
    },

    async putAttachments({ network, attachments, names, attestation }, handler) {
      const { name } = callingNode(handler);
      mustNotFlood(name);
      if (attestation !== undefined) await attest(context, network, name, attestation);
      const wanted = attachments.map(announced);
      const domain = foreignDomainOf(name);
      if (domain !== undefined && !decisionsOfPartners.has(domain, performance.now()))
        throw new Vl3Error(
          'resource-exhausted',
          `nodes of ${domain} change their attachments faster than is decided on for a partner: their agents try again by themselves`,
        );
      for (;;) {
        const { trustDomain } = signer.trustBundle;
        const rule = putAttachments(network, name, wanted, now(), trustDomain);
        const { answer, revision } = await transactor.run(paid(name, rule));
        if (domain !== undefined)
          for (let i = 0; i < answer.logged; i++) decisionsOfPartners.take(domain, performance.now());
        if (answer.remaining === 0) {
          if (names !== undefined)
            await putNodeNames(context, network, name, names, verifierOf(context, name));
          const refused = answer.refused.map((one) => ({ ...one }));
          context.counters.countAdmissionRefusals(refused.length, network, domain);
          return { revision: BigInt(revision), refused, rulesetVersion: BigInt(answer.rulesetVersion) };
        }
      }
    },

    async *watchNetwork(request, handler) {
      const caller = callingNode(handler);
      const { storeId, afterRevision: revision, stamp } = request;
      // A watch that begins anew says nothing of what the node has seen.
      if (storeId !== '') await hearing.hear(context, caller.name, { storeId, revision, stamp });
      const contentType = handler.requestHeader.get('content-type') ?? '';
      const isGrpc = /^application\/grpc(\+proto)?$/.test(contentType);
      const stream = isGrpc ? handler.values.get(streamKey) : undefined;
      const carrier = { stream, isJson: /json/.test(contentType) };
      yield* watches.watch(request, caller, carrier, handler.signal);
    },
  };
};
