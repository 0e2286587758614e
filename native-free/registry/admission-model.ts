// What the registry stores of admission beside the rules themselves (admission/rule.ts): of a network, whether and since which
// change it has rules; of an attachment, what was decided last; the grants that peers are told; and the log of decisions.

import { z } from 'zod';
import { labels, name } from './model.ts';
import { isTrustDomain } from './spiffe-id.ts';

const time = z.number().int().min(0);
const base64 = (maxBytes: number) =>
  z
    .base64()
    .min(1)
    .max(Math.ceil(maxBytes / 3) * 4);

/** Of a network whose rules an admin has touched. Absent: the home rule holds, and there is no other. */
export const ruleset = z.strictObject({
  network: name,
  /** One more with each change of a rule, so that a decision can name what it was made by. */
  version: z.number().int().min(1),
  /** Whether the home rule holds. */
  isOpen: z.boolean(),
  /** Of one that is not open: every node has its grant, so that peers can be told to go by them. */
  isInForce: z.boolean().optional(),
  changedAt: time,
});
export type Ruleset = z.infer<typeof ruleset>;

/** What was decided last of an attachment. */
export const heldDecision = z.strictObject({
  /** The rule that admits it. Absent: it was refused. */
  rule: name.optional(),
  /** Rules on trial that would have admitted it. */
  dryRun: z.array(name).max(64),
  decidedAt: time,
  /** Of what was refused: what its node said of it, in 16 digits. */
  question: z.string().max(16).optional(),
});
export type HeldDecision = z.infer<typeof heldDecision>;

export const MAX_GRANT_BYTES = 262_144;

/** A signed grant's bytes (admission/grant.ts). */
export const storedGrant = z.strictObject({
  grant: base64(MAX_GRANT_BYTES),
  signature: base64(512),
  certificateChain: z.array(base64(8192)).min(1).max(4),
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  notAfter: time,
});
export type StoredGrant = z.infer<typeof storedGrant>;

const hash = z.string().regex(/^[0-9a-f]{64}$/);

export const logHead = z.strictObject({
  /** Of the latest line, whosever it is; 0: there is none yet. */
  sequence: z.number().int().min(0),
  /** SHA-256 of the latest line's bytes, of those that are nobody's own; of nothing: zeros. */
  hash,
  /** How many of these there have been; absent: as many as the sequence says. */
  lines: z.number().int().min(0).optional(),
});
export type LogHead = z.infer<typeof logHead>;

/** Of the lines that are of somebody's nodes (admission-log.ts), as logHead. */
export const ownLogHead = z.strictObject({ lines: z.number().int().min(0), hash });
export type OwnLogHead = z.infer<typeof ownLogHead>;

/** Of refusals that got no line of their own. */
export const refusalTally = z.strictObject({
  network: name,
  /** Whose nodes' they are. */
  of: z.string().max(255),
  count: z.number().int().min(1),
  since: time,
  until: time,
});
export type RefusalTally = z.infer<typeof refusalTally>;

/** One line of the log. Its stored bytes are what the next one's `previous` is the hash of. */
export const logEntry = z.strictObject({
  sequence: z.number().int().min(1),
  at: time,
  /** Whose nodes it is about: the chain that it is in. Absent: of none, or from before there were several. */
  of: z.string().max(255).optional(),
  kind: z.enum([
    'rule-created',
    'rule-deleted',
    'admitted',
    'refused',
    'refused-again',
    'withdrawn',
    'would-admit',
    'partner-invited',
    'partner-joined',
    'partner-accepted',
    'partner-revoked',
    'partner-node-removed',
  ]),
  /** Absent: it is of a federation as a whole. */
  network: name.optional(),
  /** The rule that was made or deleted, or admits. */
  rule: name.optional(),
  /** Rules on trial that would have admitted it. */
  dryRun: z.array(name).max(64).optional(),
  /** Who changed a rule or a federation. */
  admin: z.string().max(63).optional(),
  /** The rule as it was made or deleted, the constraints of a federation, or what a node lost, in JSON. */
  definition: z.string().max(8192).optional(),
  /** Whose attachment, which is proven. */
  trustDomain: z.string().refine(isTrustDomain).optional(),
  cluster: name.optional(),
  node: name.optional(),
  attachment: z.string().max(128).optional(),
  addresses: z.array(z.string().max(39)).max(8).optional(),
  /** What its node said of it. */
  workload: z.string().max(253).optional(),
  namespace: z.string().max(253).optional(),
  serviceAccount: z.string().max(253).optional(),
  labels: labels.optional(),
  /** Of refusals that have no line of their own: how many, the first and the last of them. */
  count: z.number().int().min(1).optional(),
  since: time.optional(),
  until: time.optional(),
  /** SHA-256 of the entry before, of the same chain. */
  previous: hash,
});
export type LogEntry = z.infer<typeof logEntry>;
