// The steps by which a CA is replaced without an outage: what each makes of the present state, and why one of them is not
// taken now. That it is on the disk before it counts is the CA's part (ca.ts).

import { hkdfSync, type KeyObject } from 'node:crypto';
import { Vl3Error } from '../../native-free/error.ts';
import { toBase64 } from '../base64.ts';
import type { Authorities } from './ca-authorities.ts';
import { makeCa } from './ca-directory.ts';
import type { TrustBundle } from './chain.ts';
import { SECRET_PURPOSES } from './signer.ts';

/** What a rotation consists of, in this order. */
export const ROTATION_STEPS = ['prepare', 'sign', 'retire'] as const;
export type RotationStep = (typeof ROTATION_STEPS)[number];

interface StepTerms {
  readonly trustDomain: string;
  /** As long as what the CA signs lasts (ms). */
  readonly termMs: number;
  /** Unix ms. */
  readonly now: number;
  /** Waits for nobody. */
  readonly isUrgent: boolean;
}

/** The state after a step. Throws Vl3Error('failed-precondition') when it is not this step's turn. */
export const stepped = async (
  present: Authorities,
  step: RotationStep,
  { trustDomain, termMs, now, isUrgent }: StepTerms,
): Promise<Authorities> => {
  if (step === 'prepare') return await prepared(present, trustDomain, now);
  const since = step === 'sign' ? present.next?.since : present.previous.at(-1)?.since;
  if (since === undefined) throw outOfTurn(step);
  const left = since + termMs - now;
  if (left > 0 && !isUrgent) throw tooSoon(step, since + termMs);
  return step === 'sign' ? promoted(present, now) : { ...present, previous: [] };
};

const prepared = async (present: Authorities, trustDomain: string, now: number): Promise<Authorities> => {
  if (present.next !== undefined || present.previous.length > 0) throw outOfTurn('prepare');
  return { ...present, next: { ...(await makeCa(trustDomain, now)), since: now } };
};

const promoted = (present: Authorities, now: number): Authorities => {
  const { active, next, previous } = present;
  if (next === undefined) throw outOfTurn('sign');
  const kept = Object.values(SECRET_PURPOSES).map((purpose) => [
    purpose,
    toBase64(secretOf(present, purpose)),
  ]);
  return {
    ...present,
    active: { ...next, since: now },
    next: undefined,
    previous: [...previous, { certificate: active.certificate, since: now }],
    secrets: Object.fromEntries(kept),
  };
};

/** What follows from the first key of the domain: kept once that is gone. */
export const secretOf = ({ active, secrets }: Authorities, purpose: string): Uint8Array => {
  const kept = secrets[purpose];
  return kept === undefined ? derive(active.key, purpose) : new Uint8Array(Buffer.from(kept, 'base64'));
};

const derive = (key: KeyObject, purpose: string): Uint8Array => {
  const { d } = key.export({ format: 'jwk' });
  if (d === undefined) throw new Vl3Error('internal', 'the CA key is no private key');
  return new Uint8Array(hkdfSync('sha256', Buffer.from(d, 'base64url'), '', purpose, 32));
};

/** The signing one first: it is what join tokens and domain addresses name. */
export const bundleOf = (trustDomain: string, { active, next, previous }: Authorities): TrustBundle => ({
  trustDomain,
  certificates: [active, ...(next === undefined ? [] : [next]), ...previous].map(
    ({ certificate }) => certificate.der,
  ),
});

const outOfTurn = (step: RotationStep): Vl3Error => {
  const why = {
    prepare: 'a rotation is under way: end it with `vl3 ca rotate sign` and `vl3 ca rotate retire`',
    sign: 'there is no next CA: make it with `vl3 ca rotate prepare`',
    retire: 'no CA waits to be retired: `vl3 ca rotate sign` comes first',
  };
  return new Vl3Error('failed-precondition', why[step]);
};

const tooSoon = (step: 'sign' | 'retire', from: number): Vl3Error => {
  const why =
    step === 'sign'
      ? 'nodes that were not reached since do not know the next CA yet'
      : 'what the CA before this one signed has not ended yet';
  return new Vl3Error(
    'failed-precondition',
    `${why}: wait until ${new Date(from).toISOString()}, or say --now if that is worth more than those`,
  );
};
