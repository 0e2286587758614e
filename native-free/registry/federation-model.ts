// What the registry stores of a federation: with whom, what that may bring here and this domain there, an open invitation, and
// apart from it, since it changes far more often, the partner's bundle. Of secrets only hashes are kept.

import { z } from 'zod';
import { MAX_BUNDLE_BYTES } from '../federation/bundle-document.ts';
import { federationConstraints } from '../federation/constraints.ts';
import { isTrustDomain } from './spiffe-id.ts';

const time = z.number().int().min(0);
const hash = z.string().regex(/^[0-9a-f]{64}$/);
/** Short enough for the keys of what its nodes have. */
const trustDomain = z
  .string()
  .max(128, 'use a trust domain of at most 128 characters')
  .refine(isTrustDomain, 'is not a trust domain');

/** Of one registry. */
export const MAX_FEDERATIONS = 256;

export const federation = z.strictObject({
  trustDomain,
  /** Since when it is one. Absent: it was invited, and has not accepted. */
  activeSince: time.optional(),
  /** What its nodes may bring here. Absent: they come to nothing here. */
  admits: federationConstraints.optional(),
  /** What nodes of this domain may bring there, as its invitation said. Absent: nothing. */
  accepted: federationConstraints.optional(),
  endpoint: z
    .discriminatedUnion('profile', [
      z.strictObject({ profile: z.literal('https_web'), url: z.string().max(1024) }),
      z.strictObject({
        profile: z.literal('https_spiffe'),
        url: z.string().max(1024),
        spiffeId: z.string().max(2048),
      }),
    ])
    .optional(),
  /** "host:port". */
  registries: z.array(z.string().max(300)).max(16),
  /** One that nobody has taken yet. */
  invitation: z
    .strictObject({
      /** SHA-256 of the secret, hex. */
      secretHash: hash,
      createdAt: time,
      expiresAt: time,
      constraints: federationConstraints,
      /** Of one whose secret is proven to the signer and shown to nobody here. Absent: it follows from the secret. */
      handle: hash.optional(),
    })
    .optional(),
  /** The latest that was taken: whoever took it may ask again when the answer got lost. */
  taken: z.strictObject({ secretHash: hash, bundleHash: hash }).optional(),
  /** By which either registry may ask the other whether the federation goes on. Follows from the secret, which does not from it. */
  handle: hash.optional(),
  /** The partner says that it knows of no federation (any more). */
  revokedThereAt: time.optional(),
});
export type Federation = z.infer<typeof federation>;

export const partnerBundle = z.strictObject({
  trustDomain,
  /** The document. */
  text: z.string().max(MAX_BUNDLE_BYTES),
  /** When its endpoint, or the admin, said it last. */
  confirmedAt: time,
});
export type PartnerBundle = z.infer<typeof partnerBundle>;
