// What a signer apart has on record, as documents by kind and name: what admins told it, and what it signed. It is what keeps a
// registry that was taken over from having anything signed that is not so.

import { z } from 'zod';
import { admissionRule, MAX_RULES } from '../admission/rule.ts';
import { federationConstraints } from '../federation/constraints.ts';
import type { DocumentKind } from '../reconcile/document-store.ts';
import { isNodeKey } from '../registry/foreign-key.ts';
import { MAX_ATTACHMENTS, MAX_CERTIFICATES, name, prefix } from '../registry/model.ts';
import { MAX_AUTHORITIES } from './statement.ts';

const time = z.number().int().min(0);
const hash = z.string().regex(/^[0-9a-f]{64}$/);
/** A node of the home domain, or `<node>@<domain>`. */
const nodeKey = z.string().refine(isNodeKey, 'is no node');

const token = z.strictObject({
  /** What proofs by its secret are checked with, base64. */
  key: z.base64(),
  /** Absent: any. */
  node: name.optional(),
  expiresAt: time,
  /** By whom, and with which key (SHA-256, hex): the same may ask again. */
  usedBy: name.optional(),
  usedByKey: hash.optional(),
});
export type Token = z.infer<typeof token>;
/** Named by the SHA-256 of its secret. */
export const TOKEN: DocumentKind<Token> = { kind: 'token', schema: token };

const certificate = z.strictObject({ serial: z.string().regex(/^[0-9a-f]{1,64}$/), notAfter: time });
const node = z.strictObject({
  /** Of the present enrolment. */
  issued: z.array(certificate).max(MAX_CERTIFICATES),
  /** Of earlier ones: they renew nothing. */
  refused: z.array(certificate).max(MAX_CERTIFICATES * 4),
  revokedAt: time.optional(),
});
export type IssuedNode = z.infer<typeof node>;
export const NODE: DocumentKind<IssuedNode> = { kind: 'node', schema: node };

const network = z.strictObject({
  uid: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  pools: z.array(prefix).max(2),
  /** Whether everyone of the home domain is admitted, beside what the rules say. */
  isOpen: z.boolean(),
  rules: z.array(admissionRule).max(MAX_RULES),
});
export type KnownNetwork = z.infer<typeof network>;
export const NETWORK: DocumentKind<KnownNetwork> = { kind: 'network', schema: network };

const lease = z.strictObject({
  networkUid: z.string(),
  prefix,
  node: nodeKey,
  /** When the last grant that names it has ended and rested: until then it is nobody else's. */
  until: time,
});
export type SignedLease = z.infer<typeof lease>;
/** Named `<network's uid> <prefix>`. */
export const LEASE: DocumentKind<SignedLease> = { kind: 'lease', schema: lease };

const granted = z.strictObject({
  /** Of the last grant that was signed: of two peers take the later one, so that nobody but this ledger says what comes next. */
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  /** When it ends: until then it could be put before a later one. Absent: it is of an earlier version. */
  until: time.optional(),
});
/** Named `<network's uid> <node>`. */
export const GRANTED: DocumentKind<z.infer<typeof granted>> = { kind: 'granted', schema: granted };

const attested = z.strictObject({
  attachments: z
    .array(
      z.strictObject({
        workload: z.string(),
        namespace: z.string(),
        serviceAccount: z.string(),
        labels: z.record(z.string(), z.string()),
        addresses: z.array(z.string()),
      }),
    )
    .max(MAX_ATTACHMENTS),
  sequence: z.number().int(),
  notAfter: time,
});
export type Attested = z.infer<typeof attested>;
/** Named `<network's uid> <node>`. */
export const ATTESTED: DocumentKind<Attested> = { kind: 'attested', schema: attested };

/** What admins told of another domain, and by which CAs that is known. */
const partner = z.strictObject({
  /** What its nodes may bring here, once it has accepted. Absent: they come to nothing here. */
  admits: federationConstraints.optional(),
  /** One that nobody has taken yet; what proofs by its secret are checked with, base64. */
  invitation: z
    .strictObject({ key: z.base64(), expiresAt: time, constraints: federationConstraints })
    .optional(),
  /** Of an invitation that was accepted from it: SHA-256 of its CAs, hex, by which the first that it says is known. */
  pins: z.array(hash).max(MAX_AUTHORITIES).optional(),
  /** What it said of itself last, and when that was heard. Absent: nothing of it counts yet. */
  said: z
    .strictObject({
      /** DER in base64. */
      authorities: z.array(z.base64()).min(1).max(MAX_AUTHORITIES),
      sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
      confirmedAt: time,
    })
    .optional(),
});
export type KnownPartner = z.infer<typeof partner>;
/** Named by its trust domain. */
export const PARTNER: DocumentKind<KnownPartner> = { kind: 'partner', schema: partner };

const log = z.strictObject({
  /** Of the last line at the last head that was signed. */
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  /** The hash of the last line of each chain; of what admins did by the empty name. */
  ends: z.record(z.string(), z.string()),
});
/** The registry's log of decisions. */
export const LOG: DocumentKind<z.infer<typeof log>> = { kind: 'log', schema: log };
export const OWN_LOG = 'own';
