// How an operation went, handed to whoever asked for it.

import { Vl3Error } from '../error.ts';

/** Whoever asked is told. */
export type Done<T> = (outcome: Outcome<T>) => void;

export type Outcome<T> =
  | { readonly ok: true; readonly answer: T }
  | { readonly ok: false; readonly error: Vl3Error };

/** A failure of an operation becomes its outcome; anything else is thrown on. */
export const attempt = <T>(work: () => T): Outcome<T> => {
  try {
    return { ok: true, answer: work() };
  } catch (error) {
    if (error instanceof Vl3Error) return { ok: false, error };
    throw error;
  }
};

/** Runs work that answers by itself; when it throws, that is its answer. */
export const orFail = <T>(done: (outcome: Outcome<T>) => void, work: () => void): void => {
  const outcome = attempt(work);
  if (!outcome.ok) done(outcome);
};
