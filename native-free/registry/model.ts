// What the registry stores, as validated values: one zod schema a kind, checked whenever a value enters the store and
// whenever it is read back. Names, sizes and counts are bounded here and nowhere else. Times are milliseconds since
// the Unix epoch. Not here: where values are kept (keys.ts) and how they may change (the rules).

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { formatAddress, parseAddress, parsePrefix } from '../ipam/prefix.ts';
import { isNodeKey } from './foreign-key.ts';

/** A failed refinement's sentence stands alone; it already names the value. */
const sentence = (check: (value: string) => unknown) => (value: string, context: z.RefinementCtx) => {
  try {
    check(value);
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
  }
};

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
export const name = z
  .string()
  .max(63, 'use at most 63 characters')
  .regex(LABEL, 'use a DNS label: lowercase letters, digits and inner hyphens');

/** What a node is called in the store, see foreign-key.ts. */
export const nodeKey = z.string().max(319).refine(isNodeKey, 'is no name of a node');

/** A canonical prefix of either family. */
export const prefix = z.string().max(43).superRefine(sentence(parsePrefix));

/** An address in canonical text, so that equal addresses are equal strings. */
export const address = z
  .string()
  .max(39)
  .superRefine(
    sentence((value) => {
      const canonical = formatAddress(parseAddress(value));
      if (canonical !== value) throw new Vl3Error('invalid-argument', `write "${value}" as ${canonical}`);
    }),
  );

const time = z.number().int().min(0);
const base64 = (maxBytes: number) =>
  z
    .base64()
    .min(1)
    .max(Math.ceil(maxBytes / 3) * 4);

/** Registry time: milliseconds that the registry has been up since its store was made, see clock-rules.ts. */
const registryTime = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

const storeId = z.string().min(1).max(64);
export const MAX_PREDECESSORS = 64;

export const recovery = z.strictObject({
  /** The store is new though the CA is not; it is an older copy, restored; nodes have seen more than it knows. */
  reason: z.enum(['empty', 'restored', 'went-back']),
  since: registryTime,
});
export type Recovery = z.infer<typeof recovery>;

/** Whose store this is: SHA-256 of the CA's certificate, hex. */
export const domain = z.strictObject({
  caFingerprint: z.string().regex(/^[0-9a-f]{64}$/),
  /** Set from a loss of memory on until all is known again. */
  recovery: recovery.optional(),
  /** The identity of the restored store that the latest such recovery was for: each begins once. */
  restoredAs: storeId.optional(),
  /** Stores of this domain that nodes had seen before they saw this one, the latest last. */
  predecessors: z.array(storeId).max(MAX_PREDECESSORS).optional(),
  /** Runs of the registry whose end this store has lost, the latest last. */
  lostRuns: z
    .array(z.string().regex(/^[0-9a-f]{1,64}$/))
    .max(MAX_PREDECESSORS)
    .optional(),
});
export type Domain = z.infer<typeof domain>;

export const clock = z.strictObject({
  elapsed: registryTime,
  /** When this run of the registry began, and when the latest recovery did: no term is counted from before. */
  startedAt: registryTime,
  recoveredAt: registryTime.optional(),
});
export type Clock = z.infer<typeof clock>;

/** What a node has said of itself since the latest recovery began. */
export const report = z.strictObject({
  node: nodeKey,
  /** The registry did not know it and took it from its certificate. */
  adopted: z.boolean(),
  /** When it said what it holds; absent: not yet. */
  reportedAt: registryTime.optional(),
  /** The revision past this store's that it says it has seen. */
  revision: registryTime.optional(),
  /** How many networks were taken from it. */
  networks: z.number().int().min(0).optional(),
  /** What it claims and cannot have yet. */
  pending: z.array(z.strictObject({ network: name, prefix })).max(128),
  /** What it holds and others claim too, or define otherwise, in sentences. */
  conflicts: z.array(z.string().max(512)).max(16),
});
export type Report = z.infer<typeof report>;

export const MAX_EXCLUDED = 256;
export const network = z.strictObject({
  name,
  uid: z.string().min(1).max(64),
  poolV4: prefix.optional(),
  poolV6: prefix.optional(),
  /** Of the prefixes that nodes lease; present with the pool of its family. */
  nodePrefixLengthV4: z.number().int().min(1).max(30).optional(),
  nodePrefixLengthV6: z.number().int().min(1).max(126).optional(),
  excluded: z.array(prefix).max(MAX_EXCLUDED, `exclude at most ${MAX_EXCLUDED} prefixes`),
  mtu: z
    .number()
    .int()
    .refine((mtu) => mtu === 0 || (mtu >= 1280 && mtu <= 65_455), 'use 1280 to 65455, or 0 to derive it'),
  createdAt: time,
});
export type Network = z.infer<typeof network>;

const certificate = z.strictObject({ serial: z.string().min(1).max(64), notAfter: time });
export type Certificate = z.infer<typeof certificate>;

/** How many unexpired SVIDs a node may have: daily renewal of a week's validity needs eight. */
export const MAX_CERTIFICATES = 64;
export const node = z.strictObject({
  name,
  spiffeId: z.string().max(512),
  enrolledAt: time,
  /** Set when an admin deleted it: its identity is refused until it enrols anew. */
  deletedAt: time.optional(),
  /** Set when an admin let the deleted one come back by the word of its cluster alone. */
  readmittedAt: time.optional(),
  /** The SVIDs of this enrolment, and those of earlier ones that are refused, until they expire. */
  certificates: z.array(certificate).max(MAX_CERTIFICATES),
  refused: z.array(certificate).max(MAX_CERTIFICATES * 4),
});
export type Node = z.infer<typeof node>;

/** Of one name, that have not ended. */
export const MAX_OPERATOR_CREDENTIALS = 32;
const operatorCredential = z.strictObject({
  serial: z.string().max(64),
  notAfter: time,
  /** When it was given out here, or first used. */
  notedAt: time,
  /** The admin who had it made here. */
  issuedBy: z.string().max(63).optional(),
  revokedAt: time.optional(),
});
export type OperatorCredential = z.infer<typeof operatorCredential>;
/** What was given, by name, to those who look and change nothing. */
export const operator = z.strictObject({
  name,
  credentials: z.array(operatorCredential).max(MAX_OPERATOR_CREDENTIALS),
  /** Whatever was made until then counts no more. */
  revokedAt: time.optional(),
});
export type Operator = z.infer<typeof operator>;

/** What the registry last saw of a node; written seldom, kept when the liveness lease ends. */
export const sighting = z.strictObject({
  seenAt: time,
  agentVersion: z.string().max(64),
  observedAddress: z.string().max(64),
});
export type Sighting = z.infer<typeof sighting>;

/** Exists while the node's heartbeats come, under a lease of the store. */
export const liveness = z.strictObject({ since: time });
export type Liveness = z.infer<typeof liveness>;

/** An SVID as it was given out: unix ms, and the chain's DER, the leaf first. */
const svid = z.strictObject({
  notBefore: time,
  notAfter: time,
  certificateChain: z.array(base64(8192)).min(1).max(4),
});

export const TOKEN_ID = /^[0-9a-f]{16}$/;
export const token = z.strictObject({
  /** The first 16 digits of the hash: public, names the token in lists and logs. */
  id: z.string().regex(TOKEN_ID),
  /** SHA-256 of the secret, hex. The secret itself is nowhere. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  /** The only name it admits; absent: any. */
  node: name.optional(),
  createdAt: time,
  expiresAt: time,
  usedAt: time.optional(),
  usedBy: name.optional(),
  /** SHA-256 of the public key it enrolled: the same key may ask again when its answer got lost. */
  usedByKey: z.string().max(64).optional(),
  /** What it got, to be answered again. Absent: the token was used before this was kept. */
  svid: svid.optional(),
  revokedAt: time.optional(),
});
export type Token = z.infer<typeof token>;

/** As many tokens of a cluster a node may have used that have not expired. */
export const MAX_USED_TOKENS = 64;

/** How a node enrolled by the word of its Kubernetes cluster. Counts while it names the node's present enrolment. */
export const clusterEnrolment = z.strictObject({
  node: name,
  cluster: name,
  /** As Kubernetes calls it, and the UID of its Node object. */
  kubernetesNode: z.string().min(1).max(253),
  kubernetesUid: z.string().max(128).optional(),
  /** The node's `enrolledAt`. */
  enrolledAt: time,
  /** SHA-256 of the public key that it enrolled: the same key may ask again when its answer got lost. */
  keyHash: z.string().max(64),
  svid,
  /** Tokens that were used, until they expire: none enrols two keys. SHA-256 of what their signature covers. */
  usedTokens: z.array(z.strictObject({ hash: z.string().max(64), expiresAt: time })).max(MAX_USED_TOKENS),
});
export type ClusterEnrolment = z.infer<typeof clusterEnrolment>;

/** `joinedAt` 0: not known, since it was taken from what a node holds. */
export const member = z.strictObject({
  network: name,
  node: nodeKey,
  joinedAt: time,
  /** Of the grants that it had as a member before: its peers may know them still, and take none that is older. */
  grantSequence: z.number().int().min(0).optional(),
});
export type Member = z.infer<typeof member>;

export const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;
export const lease = z.strictObject({
  network: name,
  node: nodeKey,
  prefix,
  leasedAt: time,
  /** The agent's name for the call that leased it; absent for the first ones. */
  requestId: z
    .string()
    .regex(REQUEST_ID, 'use 1 to 64 letters, digits, dots, hyphens or underscores')
    .optional(),
  /** In registry time. Absent: before there was registry time. */
  renewedAt: registryTime.optional(),
  /** When a recovering registry that knew nothing of it took the node's word for it. */
  claimedAt: registryTime.optional(),
  /** Its term is over: in quarantine, and its node's again when it comes back. */
  endedAt: registryTime.optional(),
  /** Given back: nobody's, and resting. */
  freedAt: registryTime.optional(),
});
export type Lease = z.infer<typeof lease>;

/** How many prefixes of a family one node may hold on one network; leaving gives all back in one transaction. */
export const MAX_LEASES = 32;

/** A signed record's bytes as they came, and what the registry read in them once verified. */
export const storedRecord = z.strictObject({
  record: base64(16_384),
  signature: base64(512),
  certificateChain: z.array(base64(8192)).min(1).max(4),
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  /** The node's key on the network. Absent: an earlier version wrote it down. */
  publicKey: z.string().max(44).optional(),
  /** What it claims, and since when. */
  prefixes: z.array(z.strictObject({ prefix, leasedAt: time })).max(MAX_LEASES * 2),
  notAfter: time,
});
export type StoredRecord = z.infer<typeof storedRecord>;

/** The signed names of a node's workloads, as they came (names/signed-names.ts). */
export const storedNames = z.strictObject({
  names: base64(262_144),
  signature: base64(512),
  certificateChain: z.array(base64(8192)).min(1).max(4),
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
});
export type StoredNames = z.infer<typeof storedNames>;

export const tombstone = z.strictObject({
  network: name,
  node: nodeKey,
  removedAt: time,
  /** A record at or below this sequence is dead. 0: the node had announced none. */
  recordSequence: z.number().int().min(0),
  /** Of the last grant. Absent: it had none. */
  grantSequence: z.number().int().min(0).optional(),
});
export type Tombstone = z.infer<typeof tombstone>;

export const LABEL_KEY =
  /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
export const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;
const LABEL_KEY_REMEDY = 'use a Kubernetes label key';
/** The library leaves this key out without a word, and a rule without its only label would admit everyone. */
const withoutPrototype = (value: unknown, context: z.RefinementCtx): unknown => {
  if (typeof value === 'object' && value !== null && Object.hasOwn(value, '__proto__'))
    context.addIssue({ code: 'custom', message: LABEL_KEY_REMEDY });
  return value;
};
export const labels = z.preprocess(
  withoutPrototype,
  z
    .record(
      z.string().regex(LABEL_KEY, LABEL_KEY_REMEDY),
      z
        .string()
        .regex(LABEL_VALUE, 'use a Kubernetes label value: at most 63 letters, digits, ".", "-", "_"'),
    )
    .refine((all) => Object.keys(all).length <= 64, 'use at most 64 labels'),
);

export const ATTACHMENT_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
export const attachment = z.strictObject({
  id: z.string().regex(ATTACHMENT_ID, 'use 1 to 128 letters, digits, dots, hyphens or underscores'),
  network: name,
  node: nodeKey,
  /** A pod's name or anything like it; may be empty. */
  workload: z
    .string()
    .max(253, 'use at most 253 characters')
    .regex(
      /^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$/,
      'use a DNS name: lowercase letters, digits, hyphens and dots',
    ),
  addresses: z.array(address).min(1, 'an attachment has an address').max(8, 'use at most 8 addresses'),
  interfaceName: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,14}$/, 'use 1 to 15 letters, digits, ".", "-" or "_"')
    .refine((value) => value !== 'lo' && value !== 'eth0', 'lo and eth0 belong to the pod'),
  labels,
  /** What its node says of its pod. Absent: it says nothing. */
  namespace: z.string().min(1).max(253).optional(),
  serviceAccount: z.string().min(1).max(253).optional(),
  attachedAt: time,
});
export type Attachment = z.infer<typeof attachment>;

/** How many attachments one node may have on one network. */
export const MAX_ATTACHMENTS = 4096;

/** The value, or Vl3Error('invalid-argument') whose sentence names `what` and the field. */
export const check = <T>(schema: z.ZodType<T>, value: unknown, what: string): T => {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue === undefined ? '' : issue.path.map((part) => `.${String(part)}`).join('');
  throw new Vl3Error('invalid-argument', `${what}${path}: ${issue?.message ?? 'is malformed'}`);
};

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A value's stored bytes: JSON, checked on the way in. */
export const encodeValue = <T>(schema: z.ZodType<T>, value: T, what: string): Uint8Array =>
  encoder.encode(JSON.stringify(check(schema, value, what)));

/** Throws Vl3Error('internal'): what the store holds was checked when it was written. */
export const decodeValue = <T>(schema: z.ZodType<T>, bytes: Uint8Array, key: string): T => {
  try {
    return check(schema, JSON.parse(decoder.decode(bytes)), key);
  } catch (cause) {
    throw new Vl3Error(
      'internal',
      `the store holds a malformed value at ${key}: was it written by another version of vl3?`,
      {
        cause,
      },
    );
  }
};
