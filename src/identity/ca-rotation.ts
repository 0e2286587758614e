// The steps by which a CA is replaced without an outage, and why one of them is not taken now. Taking them is the CA's (ca.ts).

import { Vl3Error } from '../../native-free/error.ts';

/** What a rotation consists of, in this order. */
export const ROTATION_STEPS = ['prepare', 'sign', 'retire'] as const;
export type RotationStep = (typeof ROTATION_STEPS)[number];

export const outOfTurn = (step: RotationStep): Vl3Error => {
  const why = {
    prepare: 'a rotation is under way: end it with `vl3 ca rotate sign` and `vl3 ca rotate retire`',
    sign: 'there is no next CA: make it with `vl3 ca rotate prepare`',
    retire: 'no CA waits to be retired: `vl3 ca rotate sign` comes first',
  };
  return new Vl3Error('failed-precondition', why[step]);
};

export const tooSoon = (step: 'sign' | 'retire', from: number): Vl3Error => {
  const why =
    step === 'sign'
      ? 'nodes that were not reached since do not know the next CA yet'
      : 'what the CA before this one signed has not ended yet';
  return new Vl3Error(
    'failed-precondition',
    `${why}: wait until ${new Date(from).toISOString()}, or say --now if that is worth more than those`,
  );
};
