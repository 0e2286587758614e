// The store belongs to one CA, from its first start on: under another, every node and every record in it is a stranger's.

import { Vl3Error } from '../error.ts';
import { keys, one } from './keys.ts';
import { domain as domainSchema } from './model.ts';
import { beginning } from './recovery-rules.ts';
import { put, type Rule, settled } from './rules.ts';

/**
 * Whether the store knows its CA, so that none may be made anew for it; `fresh`: nothing was ever written in it, so that a
 * CA which is there already is older.
 */
export const knowsCa: Rule<'known' | 'unknown' | 'fresh'> = {
  reads: [one(keys.domain), one(keys.clock)],
  decide: (state) => {
    if (state.domain() !== undefined) return settled('known');
    return settled(state.clock() === undefined ? 'fresh' : 'unknown');
  },
};

/**
 * Writes down the CA's fingerprint (SHA-256, hex) the first time; later it must be the same, or one of `others`, which are in
 * the same bundle: then it was rotated. `isOlder`: the CA was there before the store, so what it was used for is forgotten.
 */
export const bindCa = (
  caFingerprint: string,
  isOlder = false,
  others: readonly string[] = [],
): Rule<void> => ({
  reads: [one(keys.domain), one(keys.clock)],
  decide: (state) => {
    const known = state.domain()?.value.caFingerprint;
    if (known === caFingerprint) return settled(undefined);
    const domain = state.domain()?.value;
    if (domain !== undefined && others.includes(domain.caFingerprint)) {
      return {
        compares: [state.unchanged(keys.domain)],
        operations: [put(keys.domain, domainSchema, { ...domain, caFingerprint })],
        answer: undefined,
      };
    }
    if (known !== undefined) {
      throw new Vl3Error(
        'failed-precondition',
        `the store belongs to the CA with the fingerprint ${known}, and this is ${caFingerprint}: restore store.db and ca/ from one backup`,
      );
    }
    return {
      compares: [state.unchanged(keys.domain), state.unchanged(keys.clock)],
      operations: isOlder
        ? beginning(state, 'empty', { caFingerprint })
        : [put(keys.domain, domainSchema, { caFingerprint })],
      answer: undefined,
    };
  },
});
