// Credentials of operators, who look and change nothing: what was given out under which name, and what counts no more. A credential
// is known by its serial. One that was made elsewhere (a signer apart, another issuer) is noted when it is first used; what was not
// seen before its name was revoked is judged by when it was made.

import { Vl3Error } from '../error.ts';
import { all, below, keys, one } from './keys.ts';
import {
  check,
  MAX_OPERATOR_CREDENTIALS,
  name as nameSchema,
  type Operator,
  type OperatorCredential,
  operator as operatorSchema,
} from './model.ts';
import { put, type Rule, settled } from './rules.ts';
import { MAX_OPERATIONS } from './transaction.ts';

/** What is shown by whoever calls; times in unix ms. */
export interface ShownCredential {
  readonly name: string;
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

const lasting = (credentials: readonly OperatorCredential[], now: number): OperatorCredential[] =>
  credentials.filter(({ notAfter }) => notAfter > now);

/** Notes what is given to somebody, before it is: what is not noted could not be listed. */
export const noteOperator = (
  { name, serial, notAfter }: Omit<ShownCredential, 'notBefore'>,
  issuedBy: string,
  now: number,
): Rule<void> => {
  check(nameSchema, name, 'name');
  const key = keys.operator(name);
  return {
    reads: [one(key)],
    decide: (state) => {
      const before = state.operator(name)?.value;
      const kept = lasting(before?.credentials ?? [], now);
      if (kept.length >= MAX_OPERATOR_CREDENTIALS)
        throw new Vl3Error(
          'resource-exhausted',
          `operator "${name}" has ${kept.length} credentials that have not ended, which is the most: use another name, or wait for one to end`,
        );
      const credentials = [...kept, { serial, notAfter, notedAt: now, issuedBy }];
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, operatorSchema, { name, ...before, credentials })],
        answer: undefined,
      };
    },
  };
};

/**
 * Whether a credential that holds by its certificate still counts. Throws Vl3Error('unauthenticated') when it was revoked. Answers
 * whether it is seen for the first time. `barsName`: where others issue identities, and anew all the time, who was revoked
 * stays out.
 */
export const checkOperator = (
  { name, serial, notBefore }: ShownCredential,
  { barsName }: { readonly barsName: boolean },
): Rule<{ readonly isNew: boolean }> => ({
  reads: [one(keys.operator(name))],
  decide: (state) => {
    const known = state.operator(name)?.value;
    const credential = known?.credentials.find((one) => one.serial === serial);
    const revokedAt = known?.revokedAt;
    const isOlder = revokedAt !== undefined && (barsName || notBefore <= revokedAt);
    if (credential?.revokedAt !== undefined || (isOlder && (barsName || credential === undefined)))
      throw new Vl3Error(
        'unauthenticated',
        barsName
          ? `operator "${name}" was revoked: ask an admin to have another name registered for you`
          : `this credential of operator "${name}" was revoked: ask an admin for a new one`,
      );
    const isFull = (known?.credentials.length ?? 0) >= MAX_OPERATOR_CREDENTIALS;
    return settled({ isNew: credential === undefined && !isFull });
  },
});

/** Notes one that was made elsewhere, once it is used; repeated, it does nothing. */
export const noteSeenOperator = (shown: ShownCredential, now: number): Rule<void> => {
  const { name, serial, notAfter } = shown;
  const key = keys.operator(name);
  return {
    reads: [one(key)],
    decide: (state) => {
      const before = state.operator(name)?.value;
      const kept = lasting(before?.credentials ?? [], now);
      const isKnown = kept.some((one) => one.serial === serial);
      if (isKnown || kept.length >= MAX_OPERATOR_CREDENTIALS) return settled(undefined);
      const credentials = [...kept, { serial, notAfter, notedAt: now }];
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, operatorSchema, { name, ...before, credentials })],
        answer: undefined,
      };
    },
  };
};

/**
 * From then on nothing counts that was made under the name until now, also what was never seen here. Answers how many were known
 * and had counted. Repeated, it does that again.
 */
export const revokeOperator = (name: string, now: number): Rule<number> => {
  check(nameSchema, name, 'name');
  const key = keys.operator(name);
  return {
    reads: [one(key)],
    decide: (state) => {
      const kept = lasting(state.operator(name)?.value.credentials ?? [], now);
      const credentials = kept.map((one) => ({ ...one, revokedAt: one.revokedAt ?? now }));
      return {
        compares: [state.unchanged(key)],
        operations: [put(key, operatorSchema, { name, credentials, revokedAt: now })],
        answer: kept.filter(({ revokedAt }) => revokedAt === undefined).length,
      };
    },
  };
};

export const listOperators = (now: number): Rule<readonly Operator[]> => ({
  reads: [all(below.operators)],
  decide: (state) =>
    settled(
      state.operators().map(({ value }) => ({ ...value, credentials: lasting(value.credentials, now) })),
    ),
});

/** Forgets names whose credentials have all ended. That one was revoked is kept: what was never seen may last. */
export const forgetOperators = (now: number): Rule<void> => ({
  reads: [all(below.operators)],
  decide: (state) => {
    const ended = state
      .operators()
      .filter(({ value }) => value.revokedAt === undefined && lasting(value.credentials, now).length === 0);
    const doomed = ended.slice(0, MAX_OPERATIONS / 2);
    return {
      compares: doomed.map(({ key }) => state.unchanged(key)),
      operations: doomed.map(({ key }) => ({ kind: 'delete', key })),
      answer: undefined,
    };
  },
});
