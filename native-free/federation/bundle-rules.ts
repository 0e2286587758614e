// Which bundle of a partner counts, and for how long: one for each trust domain, never merged with another's or with its own
// predecessor. A bundle from an endpoint never goes back; an admin may set any. Time is milliseconds since the Unix epoch. Not
// here: documents (bundle-document.ts), certificates, and fetching (src/federation).

import { backoffMs } from '../reconcile/backoff.ts';
import type { SignedRecord } from '../registry/record.ts';

export interface BundleCertificate {
  readonly der: Uint8Array;
  /** SHA-256 of the DER, hex. */
  readonly fingerprint: string;
  /** Unix ms; valid at both ends. */
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface SpiffeBundle {
  readonly trustDomain: string;
  /** Its CAs; none: it takes back all that it ever signed. */
  readonly certificates: readonly BundleCertificate[];
  readonly jwtKeyIds: readonly string[];
  /** Entries that the standard says are to be ignored. */
  readonly ignored: number;
  readonly sequence: bigint | undefined;
  /** Seconds. */
  readonly refreshHint: number | undefined;
  /** What the domain itself signed of its CAs, unread; absent: it is not of vl3, or of an earlier version. */
  readonly signed?: SignedRecord | undefined;
  /** The document that it was read from: what is kept and passed on. */
  readonly text: string;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The standard's advice for bundles without a hint. */
const DEFAULT_REFRESH_MS = 5 * MINUTE;
/** However a partner's hint has it: neither a flood, nor so seldom that it could not take anything back. */
export const MIN_REFRESH_MS = MINUTE;
export const MAX_REFRESH_MS = DAY;
/**
 * So long a bundle counts that its endpoint has not confirmed: what an SVID of vl3 lasts, and a little more than the outage that
 * the rest is made for. Whoever keeps us from the endpoint keeps a CA alive that was taken back for so long, and no longer.
 */
export const UNCONFIRMED_MS = 7 * DAY;
const MAX_RETRY_MS = HOUR;

/** Who says it: the partner's endpoint, authenticated, or an admin of this domain, who may also go back. */
export type BundleOrigin = 'endpoint' | 'admin';

export interface HeldBundle {
  readonly bundle: SpiffeBundle;
  /** When its endpoint, or the admin, said it last. */
  readonly confirmedAt: number;
}

export type BundleVerdict =
  /** `added` and `removed` are fingerprints; `overlaps`: some CA stays, so that what it signed goes on. */
  | {
      readonly kind: 'replaced';
      readonly held: HeldBundle;
      readonly added: readonly string[];
      readonly removed: readonly string[];
      readonly overlaps: boolean;
    }
  | { readonly kind: 'confirmed'; readonly held: HeldBundle }
  /** What was held goes on, and is not confirmed. A sentence. */
  | { readonly kind: 'refused'; readonly message: string };

/** What becomes of `held` when `offered` comes. */
export const judgeBundle = (
  held: HeldBundle | undefined,
  offered: SpiffeBundle,
  origin: BundleOrigin,
  now: number,
): BundleVerdict => {
  const { trustDomain } = offered;
  if (held !== undefined && held.bundle.trustDomain !== trustDomain)
    return refuse(`it is of ${trustDomain}, and never put beside one of ${held.bundle.trustDomain}`);
  const isSame = held !== undefined && contentOf(held.bundle) === contentOf(offered);
  if (origin === 'endpoint' && held !== undefined) {
    const message = setback(held.bundle, offered, isSame);
    if (message !== undefined) return refuse(message);
  }
  if (isSame) return { kind: 'confirmed', held: { bundle: offered, confirmedAt: now } };
  if (offered.certificates.length > 0 && !offered.certificates.some((one) => isValid(one, now)))
    return refuse(
      'none of its certificates is valid now: is the clock of this machine, or of whoever made them, wrong?',
    );
  const before = printsOf(held?.bundle);
  const after = printsOf(offered);
  return {
    kind: 'replaced',
    held: { bundle: offered, confirmedAt: now },
    added: [...after].filter((one) => !before.has(one)),
    removed: [...before].filter((one) => !after.has(one)),
    overlaps: [...after].some((one) => before.has(one)),
  };
};

/** Why it would go back, or might. */
const setback = (held: SpiffeBundle, offered: SpiffeBundle, isSame: boolean): string | undefined => {
  const [had, has] = [held.sequence, offered.sequence];
  // The standard takes the latest fetched as the newest then, and nothing better can be had.
  if (had === undefined) return undefined;
  if (has === undefined) return `it has no sequence number, and the one that is held has ${had}`;
  if (has < had)
    return `its sequence ${has} is lower than ${had}, which was seen already: it is an old one, or its domain lost its memory; then an admin here has to accept it anew`;
  if (has === had && !isSame)
    return `it says something else under the same sequence ${has}: its domain has to give it a higher one`;
  return undefined;
};

/** By which the partner's identities are verified now; none: they are not. */
export const countingCertificates = (
  held: HeldBundle | undefined,
  now: number,
): readonly BundleCertificate[] =>
  // Either way: a clock that was far ahead when it was confirmed must not make it last.
  held === undefined || Math.abs(now - held.confirmedAt) >= UNCONFIRMED_MS
    ? []
    : held.bundle.certificates.filter((one) => isValid(one, now));

/** How long to wait before the endpoint is asked again, ms; `fraction` is random in [0, 1), so that not all ask at once. */
export const nextPollMs = (held: HeldBundle | undefined, failures: number, fraction: number): number => {
  const hint = held?.bundle.refreshHint;
  const wanted = hint === undefined ? DEFAULT_REFRESH_MS : hint * SECOND;
  const interval = Math.min(MAX_REFRESH_MS, Math.max(MIN_REFRESH_MS, wanted));
  // Earlier than the hint, never later: the hint says how soon the partner wants to be heard.
  if (failures === 0) return interval * (1 - fraction / 10);
  // Past an hour one failure must not cost a whole day of knowing nothing; else at the next interval, as the standard asks.
  const capMs = Math.min(interval, MAX_RETRY_MS);
  return backoffMs({ firstMs: Math.min(2 * MIN_REFRESH_MS, capMs), capMs }, failures - 1, fraction);
};

const isValid = ({ notBefore, notAfter }: BundleCertificate, now: number): boolean =>
  notBefore <= now && now <= notAfter;

const printsOf = (bundle: SpiffeBundle | undefined): ReadonlySet<string> =>
  new Set(bundle?.certificates.map((one) => one.fingerprint));

/** What is trusted, and nothing else of the document. */
const contentOf = (bundle: SpiffeBundle): string => [...printsOf(bundle)].sort().join();

const refuse = (message: string): BundleVerdict => ({ kind: 'refused', message });
