// The documents an agent keeps (a document store holds them): the node itself, the networks it is on, the records it knows,
// its peers' learned endpoints, its attachments, and the wishes for those that are not attached yet.

import { z } from 'zod';
import { termSchema } from '../ipam/lease-clock.ts';
import { momentSchema } from '../moment.ts';
import type { DocumentKind } from './document-store.ts';

const base64 = z.base64();

const nodeSchema = z.object({
  name: z.string(),
  /** The UDP port, kept so that a restarted agent is found where it was. */
  port: z.number().int().min(1).max(65535),
  /** What its networks' namespaces are called by. Absent: an earlier version wrote it down. */
  netnsPrefix: z.string().optional(),
});
export type NodeDocument = z.infer<typeof nodeSchema>;
export const NODE: DocumentKind<NodeDocument> = { kind: 'node', schema: nodeSchema };

/** Of a prefix that this node leases. */
const leaseSchema = z.object({
  prefix: z.string(),
  leasedAt: z.number(),
  /** Absent: an earlier version wrote it down. */
  term: termSchema.optional(),
  /** Why it is not this node's any more: it goes as soon as everything in it is taken down. */
  lost: z.string().optional(),
});
export type LeaseDocument = z.infer<typeof leaseSchema>;

const networkSchema = z.object({
  name: z.string(),
  uid: z.string(),
  poolV4: z.string(),
  poolV6: z.string(),
  excludedPrefixes: z.array(z.string()),
  /** As the registry gives it; 0: derived from the underlay. */
  mtu: z.number().int(),
  /** As the registry last had them; 0: unknown. */
  nodePrefixLengthV4: z.number().int().default(0),
  nodePrefixLengthV6: z.number().int().default(0),
  createdAt: z.number().default(0),
  /** Since when the registry holds this node for a member, in its time; 0 or absent: unknown. */
  joinedAt: z.number().optional(),
  /** Not everyone of the home domain is admitted, and by which version of its rules this is known. */
  isRestricted: z.boolean().default(false),
  rulesetVersion: z.number().int().default(0),
  leases: z.array(leaseSchema),
  /** By family, what names the request for another prefix until it is answered. */
  leaseRequests: z.record(z.string(), z.string()).optional(),
  /** Prefixes that are being given back: nothing of them is used or announced any more. */
  returning: z.array(z.string()).optional(),
  /** The network's static WireGuard key on this node. */
  privateKey: base64,
  /** Greatest handshake timestamp used, so that a clock set back never blocks handshakes. */
  timestampMark: base64,
  recordSequence: z.number().int(),
  /** Unix ms since when it has had no attachment; 0: it has some. */
  emptySince: z.number(),
  /** The registry was, or is about to be, asked to take this node off it: its prefixes may be another's already. */
  isLeaving: z.boolean().default(false),
  allocator: z.unknown(),
});
export type NetworkDocument = z.infer<typeof networkSchema>;
export const NETWORK: DocumentKind<NetworkDocument> = { kind: 'network', schema: networkSchema };

const recordSchema = z.object({
  record: base64,
  signature: base64,
  certificateChain: z.array(base64),
  /** Absent: an earlier version wrote it down. */
  acceptedAt: momentSchema.optional(),
});
export type RecordDocument = z.infer<typeof recordSchema>;
/** Named `<network>/<node>`; the exact bytes received, verified again whenever they are loaded. */
export const RECORD: DocumentKind<RecordDocument> = { kind: 'record', schema: recordSchema };

const namesSchema = z.object({
  names: base64,
  signature: base64,
  certificateChain: z.array(base64),
  acceptedAt: momentSchema,
});
export type NamesDocument = z.infer<typeof namesSchema>;
/** Named `<network>/<node>`: what a node signed about its names, as the exact bytes received. */
export const NAMES: DocumentKind<NamesDocument> = { kind: 'names', schema: namesSchema };

const grantSchema = z.object({
  grant: base64,
  signature: base64,
  certificateChain: z.array(base64),
  acceptedAt: momentSchema,
});
/** Named `<network>/<node>`: what the network's home domain granted a node, as the exact bytes received. */
export const GRANT: DocumentKind<z.infer<typeof grantSchema>> = { kind: 'grant', schema: grantSchema };

const registrySchema = z.object({
  storeId: z.string(),
  /** The highest that this node has seen of that store, as decimal digits. */
  revision: z.string().regex(/^\d{1,19}$/),
  /** The registry's word for it. Absent: it gave none, or an earlier version wrote this down. */
  stamp: base64.optional(),
});
export type RegistryDocument = z.infer<typeof registrySchema>;
/** Named "seen", or "seen@<domain>": what this node last heard of the store of its own registry, or of a partner's. */
export const REGISTRY: DocumentKind<RegistryDocument> = { kind: 'registry', schema: registrySchema };

const svidSchema = z.object({
  /** Of the certificate that the term is about. */
  notAfter: z.number(),
  term: termSchema,
});
export type SvidDocument = z.infer<typeof svidSchema>;
/** One, named "self": how long this node's SVID holds. The SVID itself is in a file of its own. */
export const SVID: DocumentKind<SvidDocument> = { kind: 'svid', schema: svidSchema };

const federationSchema = z.object({
  trustDomain: z.string(),
  /** "host:port". */
  registries: z.array(z.string()),
  /** The SPIFFE document; empty: there is none. */
  bundle: z.string(),
  bundleSequence: z.string(),
  isBundleExpired: z.boolean(),
  networks: z.array(z.string()),
  /** What this node's workloads may be called there. */
  names: z.array(z.string()).default([]),
  /** The own registry lists it no more: it is being taken down. */
  isRevoked: z.boolean(),
});
export type FederationDocument = z.infer<typeof federationSchema>;
/** Named by its trust domain: another domain that the node's own is federated with. */
export const FEDERATION: DocumentKind<FederationDocument> = { kind: 'federation', schema: federationSchema };

const peerSchema = z.object({
  endpoint: z.object({ address: z.string(), port: z.number().int().min(1).max(65535) }),
});
export type PeerDocument = z.infer<typeof peerSchema>;
/** Named `<network>/<peer id>`; kept for peers there was a session with. */
export const PEER: DocumentKind<PeerDocument> = { kind: 'peer', schema: peerSchema };

/** The CNI plugin made it, for this container: by the runtime's names, within one conflist's network. */
export const cniSchema = z.object({
  cniNetwork: z.string().max(253),
  containerId: z.string().min(1).max(253),
  ifName: z.string().max(15),
});
/** The Kubernetes pod it is of. */
export const podSchema = z.object({
  namespace: z.string().min(1).max(63),
  name: z.string().min(1).max(253),
  uid: z.string().max(64),
  /** Absent: it is not known. */
  serviceAccount: z.string().max(253).optional(),
});
/** It is no namespace on this node, but a stock WireGuard elsewhere that speaks to this node. */
export const stockPeerSchema = z.object({ publicKey: base64 });
/** What whoever attached it says of it, for the rules of admission. */
export const assertedSchema = z.object({
  namespace: z.string().min(1).max(253).optional(),
  serviceAccount: z.string().min(1).max(253).optional(),
});
const originFields = {
  asserted: assertedSchema.optional(),
  stockPeer: stockPeerSchema.optional(),
  cni: cniSchema.optional(),
  pod: podSchema.optional(),
  /** The plugin's entry in the conflist asked for it, and no annotation. */
  isConfigured: z.boolean().optional(),
};
/** Who asked for it, when not a person. */
export type Origin = { [K in keyof typeof originFields]?: z.infer<(typeof originFields)[K]> };

const attachmentSchema = z.object({
  ...originFields,
  id: z.string(),
  network: z.string(),
  workload: z.string(),
  labels: z.record(z.string(), z.string()),
  netns: z.string(),
  /** Device and inode of the namespace, so that a path used again by another one is noticed. */
  netnsId: z.string(),
  interfaceName: z.string(),
  addresses: z.array(z.string()),
  /** Those of the addresses that were asked for. */
  fixed: z.array(z.string()).default([]),
  /** False until the interface stands: a crash in between is repaired or undone. */
  ready: z.boolean(),
  attachedAt: z.number(),
  /** Being detached: a crash in between is followed by the rest of it. */
  isLeaving: z.boolean().default(false),
});
export type AttachmentDocument = z.infer<typeof attachmentSchema>;
export const ATTACHMENT: DocumentKind<AttachmentDocument> = { kind: 'attachment', schema: attachmentSchema };

const wishSchema = z.object({
  ...originFields,
  /** The attachment's, once it is one. */
  id: z.string(),
  network: z.string(),
  workload: z.string(),
  labels: z.record(z.string(), z.string()),
  netns: z.string(),
  netnsId: z.string(),
  interfaceName: z.string(),
  /** These addresses and no others. */
  fixed: z.array(z.string()).default([]),
  /** What it had when it was withdrawn: rather these, if they can be had. */
  preferred: z.array(z.string()).default([]),
  /** Unix ms. */
  askedAt: z.number(),
  /** Why it is not attached, in a sentence. */
  reason: z.string(),
});
export type WishDocument = z.infer<typeof wishSchema>;
/** The reason of a wish that has not been tried to its end yet. */
export const BEING_ATTACHED = 'it is being attached';
/** What was asked for and is not attached: it will be as soon as it can, until somebody detaches it. Named as attachments are. */
export const WISH: DocumentKind<WishDocument> = { kind: 'wish', schema: wishSchema };

const domainStatementSchema = z.object({
  sequence: z.number().int(),
  revoked: z.array(z.object({ node: z.string(), until: z.number() })),
  /** Whom a signer apart vouches for: CAs as DER in base64. */
  partners: z
    .array(z.object({ trustDomain: z.string(), authorities: z.array(z.string()), until: z.number() }))
    .default([]),
});
export type DomainStatementDocument = z.infer<typeof domainStatementSchema>;
/** Named `self`; what the node's own domain said of itself last (ca/statement.ts): its CAs are in the node's identity. */
export const DOMAIN_STATEMENT: DocumentKind<DomainStatementDocument> = {
  kind: 'domain-statement',
  schema: domainStatementSchema,
};
