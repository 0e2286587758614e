// The documents an agent keeps (state.ts holds them): the node itself, the networks it is on, the records it knows,
// its peers' learned endpoints, and its attachments.

import { z } from 'zod';
import type { DocumentKind } from './state.ts';

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/);

const nodeSchema = z.object({
  name: z.string(),
  /** The UDP port, kept so that a restarted agent is found where it was. */
  port: z.number().int().min(1).max(65535),
});
export type NodeDocument = z.infer<typeof nodeSchema>;
export const NODE: DocumentKind<NodeDocument> = { kind: 'node', schema: nodeSchema };

const networkSchema = z.object({
  name: z.string(),
  uid: z.string(),
  poolV4: z.string(),
  poolV6: z.string(),
  excludedPrefixes: z.array(z.string()),
  /** As the registry gives it; 0: derived from the underlay. */
  mtu: z.number().int(),
  leases: z.array(z.object({ prefix: z.string(), leasedAt: z.number() })),
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
});
export type RecordDocument = z.infer<typeof recordSchema>;
/** Named `<network>/<node>`; the exact bytes received, verified again whenever they are loaded. */
export const RECORD: DocumentKind<RecordDocument> = { kind: 'record', schema: recordSchema };

const peerSchema = z.object({
  endpoint: z.object({ address: z.string(), port: z.number().int().min(1).max(65535) }),
});
export type PeerDocument = z.infer<typeof peerSchema>;
/** Named `<network>/<peer id>`; kept for peers there was a session with. */
export const PEER: DocumentKind<PeerDocument> = { kind: 'peer', schema: peerSchema };

const attachmentSchema = z.object({
  id: z.string(),
  network: z.string(),
  workload: z.string(),
  labels: z.record(z.string(), z.string()),
  netns: z.string(),
  /** Device and inode of the namespace, so that a path used again by another one is noticed. */
  netnsId: z.string(),
  interfaceName: z.string(),
  addresses: z.array(z.string()),
  /** False until the interface stands: a crash in between is repaired or undone. */
  ready: z.boolean(),
  attachedAt: z.number(),
});
export type AttachmentDocument = z.infer<typeof attachmentSchema>;
export const ATTACHMENT: DocumentKind<AttachmentDocument> = { kind: 'attachment', schema: attachmentSchema };
