// What the agent answers on its local API (JSON on a unix socket), parsed by the client with these schemas. What it may
// be asked is in local-requests.ts.

import { z } from 'zod';

export const attachmentSchema = z.object({
  id: z.string(),
  network: z.string(),
  workload: z.string(),
  interfaceName: z.string(),
  addresses: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  netns: z.string(),
  /** Whether its interface stands. */
  ready: z.boolean(),
  /** Why it has no addresses yet, in a sentence; empty: it is attached. It will be as soon as it can. */
  pending: z.string(),
});
export type LocalAttachment = z.infer<typeof attachmentSchema>;

export const detachResponseSchema = z.object({ detached: z.array(attachmentSchema) });
export const attachmentsResponseSchema = z.object({ attachments: z.array(attachmentSchema) });

export const stockPeerSchema = z.object({
  id: z.string(),
  network: z.string(),
  name: z.string(),
  publicKey: z.string(),
  addresses: z.array(z.string()),
  /** Why it has no addresses yet, in a sentence; empty: it has. */
  pending: z.string(),
  /** "address:port"; empty: not heard yet. */
  endpoint: z.string(),
  /** Unix ms; 0: never. */
  lastHandshakeAt: z.number(),
  /** Since the agent started. */
  rxBytes: z.number(),
  txBytes: z.number(),
  /** Over about the last minute. */
  rxBytesPerSecond: z.number().default(0),
  txBytesPerSecond: z.number().default(0),
});
export type LocalStockPeer = z.infer<typeof stockPeerSchema>;

/** With what its own configuration needs of this node. */
export const madeStockPeerSchema = stockPeerSchema.extend({
  node: z.object({
    publicKey: z.string(),
    /** Best first. */
    endpoints: z.array(z.object({ address: z.string(), port: z.number() })),
    pools: z.array(z.string()),
    gateways: z.array(z.string()),
    mtu: z.number(),
  }),
});
export type MadeStockPeer = z.infer<typeof madeStockPeerSchema>;

export const stockPeersResponseSchema = z.object({ peers: z.array(stockPeerSchema) });

const peerStatusSchema = z.object({
  node: z.string(),
  publicKey: z.string(),
  prefixes: z.array(z.string()),
  endpoint: z.string(),
  /** Unix ms; 0: never. */
  lastHandshakeAt: z.number(),
  rxBytes: z.number(),
  txBytes: z.number(),
  /** The greatest packet of the underlay that was shown to reach it; null: not known. */
  pathMtu: z.number().nullable().default(null),
  /** Round trip of an echo inside the tunnel; null: not probed (no session) or not answered. */
  rttMs: z.number().nullable(),
  /** A node of another domain than the network: it has the addresses that were admitted, and no more. */
  isForeign: z.boolean().default(false),
  /** As the registry last said. */
  alive: z.boolean(),
  /** It is not there: its addresses are unreachable until it is heard of again. */
  withdrawn: z.boolean().default(false),
  problem: z.string(),
});
export type PeerStatus = z.infer<typeof peerStatusSchema>;

const leaseStatusSchema = z.object({
  prefix: z.string(),
  /** "closing": nothing is allocated from it; "ending", "ended": nothing is attached from it. */
  phase: z.enum(['good', 'closing', 'ending', 'ended']),
  /** Milliseconds; negative: it ended that long ago. */
  leftMs: z.number(),
  /** The same in unix ms, by the present wall clock. */
  endsAt: z.number(),
  problem: z.string(),
});

const networkStatusSchema = z.object({
  /** With its domain when it is another's. */
  name: z.string(),
  /** The trust domain whose it is; empty: the agent is of an earlier version. */
  home: z.string().default(''),
  isForeign: z.boolean().default(false),
  /** Not everyone is admitted to it. */
  isRestricted: z.boolean().default(false),
  /** "up", or "pending" with the reason in `problem`. */
  state: z.enum(['up', 'pending']),
  gateways: z.array(z.string()),
  prefixes: z.array(z.string()),
  /** How long each of the prefixes is this node's unless it is renewed. */
  leases: z.array(leaseStatusSchema),
  mtu: z.number(),
  attachments: z.number(),
  publicKey: z.string(),
  peers: z.array(peerStatusSchema),
  problem: z.string(),
});
export type NetworkStatus = z.infer<typeof networkStatusSchema>;

const federationStatusSchema = z.object({
  trustDomain: z.string(),
  /** "host:port". */
  registries: z.array(z.string()),
  /** It is being taken down. */
  isRevoked: z.boolean(),
  /** Whether there is a bundle that counts. */
  isBelieved: z.boolean(),
  /** Networks there that this domain's nodes may ask for. */
  offered: z.array(z.string()),
  /** Those that this node is on. */
  networks: z.array(z.string()),
  isConnected: z.boolean(),
  /** Unix ms of its registry's last answer; 0: none since the agent started. */
  lastContactAt: z.number(),
  /** How long its registry may be gone; null: nothing here needs it. */
  outageBudget: z
    .object({ leftMs: z.number(), termMs: z.number(), takedownMs: z.number().nullable() })
    .nullable(),
  problem: z.string(),
});
export type FederationStatus = z.infer<typeof federationStatusSchema>;

export const statusSchema = z.object({
  node: z.string(),
  trustDomain: z.string(),
  version: z.string(),
  port: z.number(),
  /** Which implementation makes handshakes, and which seals packets. */
  primitives: z.string(),
  aead: z.string(),
  offloads: z.array(z.string()),
  registry: z.object({
    connected: z.boolean(),
    addresses: z.array(z.string()),
    /** Unix ms of the last answer; 0: none since the agent started. */
    lastContactAt: z.number(),
    problem: z.string(),
    /** It answers, but that this node was deleted, or is unknown: leases and outage budget mean nothing then. */
    refusesThisNode: z.boolean().default(false),
  }),
  svidNotAfter: z.number(),
  /** Where it comes from, e.g. "the Workload API at unix:///run/spire/agent.sock"; empty: from the registry. */
  svidSource: z.string().default(''),
  /** How long the registry may be gone from now on, see outage-budget.ts. */
  outageBudget: z.object({ leftMs: z.number(), termMs: z.number(), takedownMs: z.number().nullable() }),
  /** With an identity of its own, unix ms: until then other nodes believe this one's records, should the registry be gone. */
  recordsUntil: z.number().nullable().default(null),
  behindNat: z.boolean(),
  endpoints: z.array(z.string()),
  networks: z.array(networkStatusSchema),
  /** The domains that this node's own is federated with. */
  federations: z.array(federationStatusSchema).default([]),
  /** Of the informer; null: it is off. */
  kubernetes: z
    .object({
      inSync: z.boolean(),
      /** Of this node, and of those the ones that ask for networks. */
      pods: z.number(),
      asking: z.number(),
    })
    .nullable()
    .default(null),
  drops: z.record(z.string(), z.number()),
  problems: z.array(z.string()),
  /** What happened lately, oldest first; `at` in unix ms. */
  events: z.array(z.object({ at: z.number(), what: z.string() })),
});
export type AgentStatus = z.infer<typeof statusSchema>;

export const errorResponseSchema = z.object({ code: z.string(), message: z.string() });
