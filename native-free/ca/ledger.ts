// What a signer apart has on record, as documents by kind and name: what admins told it, and what it signed. It is what keeps a
// registry that was taken over from having anything signed that is not so.

import { z } from 'zod';
import { admissionRule, MAX_RULES } from '../admission/rule.ts';
import type { DocumentKind } from '../reconcile/document-store.ts';
import { MAX_ATTACHMENTS, MAX_CERTIFICATES, name, prefix } from '../registry/model.ts';

const time = z.number().int().min(0);
const hash = z.string().regex(/^[0-9a-f]{64}$/);

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
  node: name,
  /** When the last grant that names it has ended and rested: until then it is nobody else's. */
  until: time,
});
export type SignedLease = z.infer<typeof lease>;
/** Named `<network's uid> <prefix>`. */
export const LEASE: DocumentKind<SignedLease> = { kind: 'lease', schema: lease };

const granted = z.strictObject({
  /** Of the last grant that was signed: of two peers take the later one, so that nobody but this ledger says what comes next. */
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
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
