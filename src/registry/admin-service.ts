// AdminService: each RPC reads its request, runs a rule, and answers with messages. Access was checked before.

import { randomUUID } from 'node:crypto';
import { durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { Vl3Error } from '../../native-free/error.ts';
import { excludedUses } from '../../native-free/registry/excluded-uses.ts';
import { all, below, keys, one } from '../../native-free/registry/keys.ts';
import { isHeld } from '../../native-free/registry/lease-phase.ts';
import { removeMember } from '../../native-free/registry/lease-rules.ts';
import {
  check,
  type Lease,
  type Node,
  name as nameSchema,
  type Network as StoredNetwork,
} from '../../native-free/registry/model.ts';
import {
  createNetwork,
  deleteNetwork,
  type NetworkRequest,
  updateNetwork,
} from '../../native-free/registry/network-rules.ts';
import { deleteNode, readmitNode } from '../../native-free/registry/node-rules.ts';
import {
  mustIssue,
  RECOVERY_READS,
  recoveryProgress,
  settle,
} from '../../native-free/registry/recovery-rules.ts';
import { mustBeNetwork } from '../../native-free/registry/rules.ts';
import { formatSpiffeId } from '../../native-free/registry/spiffe-id.ts';
import type { State } from '../../native-free/registry/state.ts';
import { createToken, revokeToken } from '../../native-free/registry/token-rules.ts';
import type { AdminService } from '../api/generated/vl3/v1/admin_pb.js';
import type { Network } from '../api/generated/vl3/v1/common_pb.js';
import type { GivenIdentity, Signer } from '../identity/signer.ts';
import { createTokenSecret, hashSecret } from '../identity/token.ts';
import { VERSION } from '../version.ts';
import { backupMessage } from './backup-messages.ts';
import type { RegistryContext } from './context.ts';
import { attachmentMessage, leaseMessage, networkMessage, tokenMessage } from './messages.ts';

const networkRequest = (network: Network | undefined): NetworkRequest & { uid: string; revision: number } => {
  if (network === undefined) throw new Vl3Error('invalid-argument', 'network: it is missing');
  return {
    name: network.name,
    uid: network.uid,
    poolV4: network.poolV4,
    poolV6: network.poolV6,
    nodePrefixLengthV4: network.nodePrefixLengthV4,
    nodePrefixLengthV6: network.nodePrefixLengthV6,
    excluded: network.excludedPrefixes,
    mtu: network.mtu,
    revision: Number(network.revision),
  };
};

/** Of all nodes together, in one answer. */
const MAX_CONFLICTS = 100;

const networkReads = (name: string) => [
  one(keys.network(name)),
  one(keys.ruleset(name)),
  all(below.leases(name)),
  all(below.attachments(name)),
];

/** With what its rules are. */
/** A signer apart that does not answer: until it does, nobody enrols and no prefix is leased. */
const awaySigner = ({ problem, trustBundle: { trustDomain } }: Signer): GivenIdentity[] => {
  if (problem === undefined) return [];
  const says = `nobody enrols, and nothing is leased or renewed, while the signer is away: ${problem.message}`;
  return [
    {
      spiffeId: formatSpiffeId({ kind: 'ca', trustDomain }),
      place: 'the signer',
      notAfter: 0,
      problem: says,
    },
  ];
};

const messageIn = (state: State, network: StoredNetwork, revision: number): Network =>
  networkMessage(network, revision, state.ruleset(network.name)?.value);

/** What was given back and rests is nobody's. */
const heldIn = (state: State, network: string): Lease[] =>
  state
    .leases(network)
    .map(({ value }) => value)
    .filter(isHeld);

const usesIn = (state: State, network: StoredNetwork) =>
  excludedUses(
    network,
    heldIn(state, network.name),
    state.attachments(network.name).map(({ value }) => value),
  );

const NODE_READS = [
  ...[all(below.nodes), all(below.sightings), all(below.liveness), all(below.members())],
  all(below.clusterEnrolments),
];

export const adminService = (context: RegistryContext): ServiceImpl<typeof AdminService> => {
  const { transactor, store, heartbeats, now, logger, terms } = context;

  const nodeMessage = (state: State, node: Node, networks: readonly string[]) => {
    const sighting = state.sighting(node.name)?.value;
    const lastSeenAt = heartbeats.lastSeenAt(node.name) ?? sighting?.seenAt;
    const enrolment = state.clusterEnrolment(node.name)?.value;
    const svidNotAfter = Math.max(0, ...node.certificates.map(({ notAfter }) => notAfter));
    return {
      name: node.name,
      spiffeId: node.spiffeId,
      enrolledAt: timestampFromMs(node.enrolledAt),
      // Of SVIDs that others issue, only their nodes know the end.
      ...(svidNotAfter > 0 && { svidNotAfter: timestampFromMs(svidNotAfter) }),
      ...(lastSeenAt !== undefined && { lastSeenAt: timestampFromMs(lastSeenAt) }),
      alive: state.liveness(node.name) !== undefined,
      agentVersion: sighting?.agentVersion ?? '',
      observedAddress: sighting?.observedAddress ?? '',
      networks: [...networks],
      ...(enrolment?.enrolledAt === node.enrolledAt && {
        cluster: enrolment.cluster,
        kubernetesNode: enrolment.kubernetesNode,
      }),
    };
  };

  return {
    async createNetwork(request) {
      const wanted = networkRequest(request.network);
      const before = await transactor.read([
        one(keys.domain),
        one(keys.network(check(nameSchema, wanted.name, 'name'))),
      ]);
      // Under that name nodes may hold one that the registry does not know yet.
      if (before.network(wanted.name) === undefined) mustIssue(before, 'network');
      const rule = createNetwork(wanted, { now: now(), uid: randomUUID() }, context.reservedRanges);
      const { answer } = await transactor.run(rule);
      const { name } = answer.network;
      const state = await transactor.read([one(keys.network(name)), one(keys.ruleset(name))]);
      const { value, revision } = mustBeNetwork(state, name);
      logger.info({ network: value.name, poolV4: value.poolV4, poolV6: value.poolV6 }, 'network created');
      return { network: messageIn(state, value, revision), warnings: [...answer.warnings] };
    },

    async getNetwork({ name }) {
      check(nameSchema, name, 'name');
      const state = await transactor.read(networkReads(name));
      const { value, revision } = mustBeNetwork(state, name);
      const leases = heldIn(state, name).map(leaseMessage);
      return { network: messageIn(state, value, revision), leases, excludedUses: usesIn(state, value) };
    },

    async listNetworks() {
      const state = await transactor.read([all(below.networks), all(below.rulesets)]);
      return {
        networks: state.networks().map(({ value, revision }) => messageIn(state, value, revision)),
      };
    },

    async updateNetwork(request) {
      const { answer } = await transactor.run(updateNetwork(networkRequest(request.network)));
      const state = await transactor.read(networkReads(answer.name));
      const { value, revision } = mustBeNetwork(state, answer.name);
      logger.info({ network: value.name, excluded: value.excluded, mtu: value.mtu }, 'network updated');
      return { network: messageIn(state, value, revision), excludedUses: usesIn(state, value) };
    },

    async deleteNetwork({ name }) {
      await transactor.run(deleteNetwork(name));
      logger.info({ network: name }, 'network deleted');
      return {};
    },

    async listNodes() {
      const state = await transactor.read(NODE_READS);
      const networks = new Map<string, string[]>();
      for (const { value } of state.members()) {
        networks.set(value.node, [...(networks.get(value.node) ?? []), value.network]);
      }
      const nodes = state.nodes().filter(({ value }) => value.deletedAt === undefined);
      return { nodes: nodes.map(({ value }) => nodeMessage(state, value, networks.get(value.name) ?? [])) };
    },

    async getNode({ name }) {
      check(nameSchema, name, 'name');
      const state = await transactor.read([...NODE_READS, all(below.leases())]);
      const node = state.node(name)?.value;
      if (node === undefined || node.deletedAt !== undefined) {
        throw new Vl3Error('not-found', `there is no node "${name}": see \`vl3 node list\``);
      }
      const own = <T extends { node: string }>({ value }: { value: T }) => value.node === name;
      const networks = state
        .members()
        .filter(own)
        .map(({ value }) => value.network);
      const leases = state.leases().filter((lease) => own(lease) && isHeld(lease.value));
      return {
        node: nodeMessage(state, node, networks),
        leases: leases.map(({ value }) => leaseMessage(value)),
      };
    },

    async deleteNode({ name }) {
      const { answer: networks } = await transactor.run(deleteNode(name, now()));
      heartbeats.forget(name);
      context.hearing.forget(name);
      const freed: Lease[] = [];
      for (const network of networks) {
        freed.push(...(await transactor.run(removeMember(network, name, now()))).answer);
      }
      // Last: peers drop it by its tombstone. This is for those who are told of it by somebody who does not know that.
      await context.signer
        .revoke?.(name)
        .catch((error: unknown) =>
          logger.error({ err: error, node: name }, 'what it signed could not be voided'),
        );
      logger.info({ node: name, networks, freed: freed.map(({ prefix }) => prefix) }, 'node deleted');
      return { freed: freed.map(leaseMessage) };
    },

    async readmitNode({ name }) {
      await transactor.run(readmitNode(name, now()));
      logger.info({ node: name }, 'deleted node may enrol again by the word of its cluster');
      return {};
    },

    async listAttachments({ network, node }) {
      if (network !== '') check(nameSchema, network, 'network');
      if (node !== '') check(nameSchema, node, 'node');
      const prefix =
        network === ''
          ? below.attachments()
          : below.attachments(network, ...(node === '' ? [] : ([node] as const)));
      const state = await transactor.read([all(prefix)]);
      const found = state.attachmentsBelow(prefix).filter(({ value }) => node === '' || value.node === node);
      return { attachments: found.map(({ value }) => attachmentMessage(value)) };
    },

    async createToken({ node, ttl, secretHash }) {
      const secret = secretHash === '' ? createTokenSecret() : undefined;
      if (secret !== undefined && context.signer.isApart)
        throw new Vl3Error(
          'failed-precondition',
          "the signer is apart, and has to be told of each join token: use an admin's credential that `vl3 ca admin` made",
        );
      const joinToken = secret === undefined ? '' : context.formatJoinToken(secret);
      const hash = secret === undefined ? secretHash : hashSecret(secret);
      if (!/^[0-9a-f]{64}$/.test(hash))
        throw new Vl3Error('invalid-argument', 'secret_hash: use a SHA-256 in hex');
      const ttlMs = ttl === undefined ? undefined : durationMs(ttl);
      const { answer: token } = await transactor.run(createToken({ hash, node, ttlMs }, now()));
      logger.info({ tokenId: token.id, node: token.node, expiresAt: token.expiresAt }, 'join token created');
      return {
        token: tokenMessage(token),
        joinToken,
      };
    },

    async listTokens() {
      const state = await transactor.read([all(below.tokens)]);
      const tokens = state.tokens().sort((a, b) => a.value.createdAt - b.value.createdAt);
      return { tokens: tokens.map(({ value }) => tokenMessage(value)) };
    },

    async revokeToken({ id }) {
      await transactor.run(revokeToken(id, now()));
      logger.info({ tokenId: id }, 'join token revoked');
      return {};
    },

    async getStatus() {
      const state = await transactor.read([
        ...NODE_READS,
        ...RECOVERY_READS,
        all(below.networks),
        all(below.attachments()),
      ]);
      const progress = recoveryProgress(state);
      const nodes = state.nodes().filter(({ value }) => value.deletedAt === undefined);
      const refused = [...context.counters.refusedEnrolments];
      return {
        trustDomain: context.signer.trustBundle.trustDomain,
        signer:
          context.signer.given !== undefined ? 'given' : context.signer.isApart ? 'apart' : 'in-process',
        identities: [...(context.signer.given ?? []), ...awaySigner(context.signer)].map(
          ({ notAfter, problem = '', ...one }) => ({ ...one, notAfter: timestampFromMs(notAfter), problem }),
        ),
        version: VERSION,
        storeId: store.identity,
        revision: BigInt(state.revision),
        networks: state.networks().length,
        nodes: nodes.length,
        nodesAlive: nodes.filter(({ value }) => state.liveness(value.name) !== undefined).length,
        attachments: state.attachments().length,
        watchers: context.counters.watchers,
        refusedEnrolments: Object.fromEntries(refused.map(([reason, count]) => [reason, BigInt(count)])),
        outageBudgetMs: BigInt(terms.outageBudgetMs),
        ...(progress && {
          recovery: {
            reason: progress.recovery.reason,
            awaited: [...progress.awaited],
            adopted: [...progress.adopted],
            conflicts: progress.conflicts.slice(0, MAX_CONFLICTS),
          },
        }),
      };
    },

    async settleRegistry() {
      const unclaimed = new Map<string, Lease>();
      for (;;) {
        const { answer } = await transactor.run(settle(now()));
        for (const lease of answer.unclaimed) unclaimed.set(keys.lease(lease.network, lease.prefix), lease);
        if (answer.done) break;
      }
      const leases = [...unclaimed.values()];
      logger.warn(
        { unclaimed: leases.map(({ node, network, prefix }) => ({ node, network, prefix })) },
        'recovery ended by an admin: prefixes are issued again',
      );
      return { unclaimed: leases.map(leaseMessage) };
    },

    async *backup(_request, handler) {
      logger.info('backup begun');
      for await (const part of context.backups.make(handler.signal)) yield backupMessage(part);
      logger.info('backup sent');
    },
  };
};
