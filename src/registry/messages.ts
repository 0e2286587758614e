// The stored values as messages of the API. One function a message, no decision.

import { create } from '@bufbuild/protobuf';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { NodeNames } from '../../native-free/names/signed-names.ts';
import type { Ruleset, StoredGrant } from '../../native-free/registry/admission-model.ts';
import type * as model from '../../native-free/registry/model.ts';
import type { NodeRecord, SignedRecord as SignedBytes } from '../../native-free/registry/record.ts';
import type { NetworkStep } from '../../native-free/registry/view.ts';
import { type Token, TokenSchema } from '../api/generated/vl3/v1/admin_pb.js';
import {
  NetworkDeltaSchema,
  NetworkProgressSchema,
  NetworkSnapshotSchema,
  NodeEntrySchema,
  NodeTombstoneSchema,
  type WatchNetworkResponse,
  WatchNetworkResponseSchema,
} from '../api/generated/vl3/v1/agent_pb.js';
import {
  type Attachment,
  AttachmentSchema,
  type Network,
  NetworkSchema,
  type PrefixLease,
  PrefixLeaseSchema,
  type SignedRecord,
  SignedRecordSchema,
  type TrustBundle as TrustBundleMessage,
  TrustBundleSchema,
} from '../api/generated/vl3/v1/common_pb.js';
import { fromBase64, toBase64 } from '../base64.ts';
import type { TrustBundle } from '../identity/chain.ts';

export const networkMessage = (network: model.Network, revision: number, ruleset?: Ruleset): Network =>
  create(NetworkSchema, {
    name: network.name,
    uid: network.uid,
    poolV4: network.poolV4 ?? '',
    poolV6: network.poolV6 ?? '',
    nodePrefixLengthV4: network.nodePrefixLengthV4 ?? 0,
    nodePrefixLengthV6: network.nodePrefixLengthV6 ?? 0,
    excludedPrefixes: network.excluded,
    mtu: network.mtu,
    createdAt: timestampFromMs(network.createdAt),
    revision: BigInt(revision),
    isRestricted: ruleset?.isOpen === false && ruleset.isInForce === true,
    rulesetVersion: BigInt(ruleset?.version ?? 0),
  });

/** As a node tells of it; whoever takes it over checks it. */
export const networkOf = (message: Network): model.Network => ({
  name: message.name,
  uid: message.uid,
  ...(message.poolV4 !== '' && { poolV4: message.poolV4 }),
  ...(message.poolV6 !== '' && { poolV6: message.poolV6 }),
  ...(message.nodePrefixLengthV4 !== 0 && { nodePrefixLengthV4: message.nodePrefixLengthV4 }),
  ...(message.nodePrefixLengthV6 !== 0 && { nodePrefixLengthV6: message.nodePrefixLengthV6 }),
  excluded: message.excludedPrefixes,
  mtu: message.mtu,
  createdAt: message.createdAt === undefined ? 0 : Math.max(0, timestampMs(message.createdAt)),
});

export const leaseMessage = (lease: model.Lease): PrefixLease =>
  create(PrefixLeaseSchema, {
    network: lease.network,
    node: lease.node,
    prefix: lease.prefix,
    leasedAt: timestampFromMs(lease.leasedAt),
    requestId: lease.requestId ?? '',
  });

export const attachmentMessage = (attachment: model.Attachment): Attachment =>
  create(AttachmentSchema, {
    ...attachment,
    namespace: attachment.namespace ?? '',
    serviceAccount: attachment.serviceAccount ?? '',
    attachedAt: timestampFromMs(attachment.attachedAt),
  });

export const tokenMessage = (token: model.Token): Token =>
  create(TokenSchema, {
    id: token.id,
    node: token.node ?? '',
    createdAt: timestampFromMs(token.createdAt),
    expiresAt: timestampFromMs(token.expiresAt),
    ...(token.usedAt !== undefined && { usedAt: timestampFromMs(token.usedAt) }),
    usedBy: token.usedBy ?? '',
    ...(token.revokedAt !== undefined && { revokedAt: timestampFromMs(token.revokedAt) }),
  });

export const bundleMessage = (bundle: TrustBundle): TrustBundleMessage =>
  create(TrustBundleSchema, {
    trustDomain: bundle.trustDomain,
    certificates: [...bundle.certificates],
  });

const recordMessage = (
  record: Pick<model.StoredRecord, 'record' | 'signature' | 'certificateChain'>,
): SignedRecord =>
  create(SignedRecordSchema, {
    record: fromBase64(record.record),
    signature: fromBase64(record.signature),
    certificateChain: record.certificateChain.map(fromBase64),
  });

/** What the store keeps of a record that was verified. */
export const storedRecord = (signed: SignedRecord, read: NodeRecord): model.StoredRecord => ({
  record: toBase64(signed.record),
  signature: toBase64(signed.signature),
  certificateChain: signed.certificateChain.map(toBase64),
  sequence: read.sequence,
  publicKey: read.publicKey,
  prefixes: read.prefixes,
  notAfter: read.notAfter,
});

/** What the store keeps of names that were verified. */
export const storedNames = (signed: SignedRecord, { sequence }: NodeNames): model.StoredNames => ({
  names: toBase64(signed.record),
  signature: toBase64(signed.signature),
  certificateChain: signed.certificateChain.map(toBase64),
  sequence,
});

/** What the store keeps of a grant that this registry signed. */
export const storedGrant = (
  signed: SignedBytes & { readonly sequence: number; readonly notAfter: number },
): StoredGrant => ({
  grant: toBase64(signed.record),
  signature: toBase64(signed.signature),
  certificateChain: signed.certificateChain.map(toBase64),
  sequence: signed.sequence,
  notAfter: signed.notAfter,
});

/** Where a step leaves a watcher. */
interface Position {
  readonly storeId: string;
  readonly stamp: Uint8Array;
}

export const watchMessage = (position: Position, step: NetworkStep): WatchNetworkResponse => {
  const message = create(WatchNetworkResponseSchema, { ...position, revision: BigInt(step.revision) });
  if (step.kind === 'deleted') {
    message.step = { case: 'delta', value: create(NetworkDeltaSchema, { networkDeleted: true }) };
    return message;
  }
  const network = step.network && networkMessage(step.network, step.networkRevision, step.ruleset);
  const nodes = step.nodes.map(({ node, record, alive, names, grant }) =>
    create(NodeEntrySchema, {
      node,
      alive,
      ...(record && { record: recordMessage(record) }),
      ...(names && { names: recordMessage({ ...names, record: names.names }) }),
      ...(grant && { grant: recordMessage({ ...grant, record: grant.grant }) }),
    }),
  );
  const tombstones = step.tombstones.map(({ node, removedAt, recordSequence }) =>
    create(NodeTombstoneSchema, {
      node,
      removedAt: timestampFromMs(removedAt),
      recordSequence: BigInt(recordSequence),
    }),
  );
  const init = { ...(network && { network }), nodes, tombstones };
  message.step =
    step.kind === 'snapshot'
      ? { case: 'snapshot', value: create(NetworkSnapshotSchema, init) }
      : { case: 'delta', value: create(NetworkDeltaSchema, init) };
  return message;
};

/** Nothing changed; the stream is alive. */
export const progressMessage = (position: Position, revision: number): WatchNetworkResponse =>
  create(WatchNetworkResponseSchema, {
    ...position,
    revision: BigInt(revision),
    step: { case: 'progress', value: create(NetworkProgressSchema) },
  });
