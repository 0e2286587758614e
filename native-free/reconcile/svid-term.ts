// How long this node's SVID holds, by CLOCK_BOOTTIME, and when to renew it. The certificate itself names wall-clock times,
// which are believed once, when it is first seen; from then on the wall clock may jump.

import { Vl3Error } from '../error.ts';
import { carriedOver, leftMs, renewalDelay, retryDelay, type Term } from '../ipam/lease-clock.ts';
import type { Moment } from '../moment.ts';
import type { DocumentStore } from './document-store.ts';
import { SVID } from './documents.ts';

/** The part of an identity that this is about: unix ms. */
export interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

const NAME = 'self';

export class SvidTerm {
  readonly #documents: DocumentStore;
  /** In [0, 1). */
  readonly #random: () => number;
  #validity: Validity;
  #term: Term;
  /** CLOCK_BOOTTIME. */
  #renewAt: number;
  #isSaved = false;

  /**
   * `random` in [0, 1) spreads renewals. Throws Vl3Error when `documents` cannot be read; that it cannot be written does not
   * stop a start.
   */
  constructor(validity: Validity, documents: DocumentStore, now: Moment, random: () => number) {
    this.#documents = documents;
    this.#random = random;
    this.#validity = validity;
    const saved = documents.get(SVID, NAME);
    this.#term =
      saved?.notAfter === validity.notAfter ? carriedOver(saved.term, now) : firstSeen(validity, now);
    this.#renewAt = this.#due();
    this.#trySave();
  }

  get termMs(): number {
    return this.#term.termMs;
  }

  /** Milliseconds left; negative: it expired that long ago. */
  leftMs(now: Moment): number {
    return leftMs(this.#term, now);
  }

  isDue(now: Moment): boolean {
    if (!this.#isSaved) this.#trySave();
    return now.boot >= this.#renewAt;
  }

  /** It was renewed by a request sent at `since`, by a registry that gives terms of `leaseTermMs` (0: it does not say). */
  renewed(validity: Validity, leaseTermMs: number, since: Moment): void {
    const whole = validity.notAfter - validity.notBefore;
    const termMs = leaseTermMs === 0 ? validity.notAfter - since.wall : Math.min(leaseTermMs, whole);
    this.#validity = validity;
    this.#term = { termMs: Math.max(1, termMs), since };
    this.#renewAt = this.#due();
    this.#trySave();
  }

  failed(now: Moment): void {
    this.#renewAt = now.boot + retryDelay(this.#term.termMs);
  }

  #due(): number {
    return this.#term.since.boot + renewalDelay(this.#term.termMs, this.#random());
  }

  /** A disk that is full now may have room at the next heartbeat. */
  #trySave(): void {
    this.#isSaved = false;
    try {
      this.#documents.put(SVID, NAME, { notAfter: this.#validity.notAfter, term: this.#term });
      this.#isSaved = true;
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
    }
  }
}

/** A clock that is before the certificate cannot tell: then all of its validity is assumed. */
const firstSeen = ({ notBefore, notAfter }: Validity, now: Moment): Term => {
  const termMs = now.wall < notBefore ? notAfter - notBefore : notAfter - now.wall;
  return termMs > 0 ? { termMs, since: now } : { termMs: 1, since: { ...now, boot: now.boot - 1 } };
};

/** What is wrong with a wall clock by which a certificate that holds does not; undefined: nothing. */
export const clockProblem = ({ notBefore, notAfter }: Validity, wall: number): string | undefined => {
  if (notBefore <= wall && wall < notAfter) return undefined;
  const iso = (time: number): string => new Date(time).toISOString();
  return `the clock of this machine says ${iso(wall)}, but its certificate holds from ${iso(notBefore)} to ${iso(notAfter)}: set the clock right; until then no new connection to the registry can be made`;
};
