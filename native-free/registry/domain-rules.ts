// The store belongs to one CA, from its first start on: under another, every node and every record in it is a stranger's.

import { Vl3Error } from '../error.ts';
import { keys, one } from './keys.ts';
import { domain as domainSchema } from './model.ts';
import { put, type Rule, settled } from './rules.ts';

/** Whether the store knows its CA, so that none may be made anew for it. */
export const knowsCa: Rule<boolean> = {
  reads: [one(keys.domain)],
  decide: (state) => settled(state.domain() !== undefined),
};

/** Writes down the CA's fingerprint (SHA-256, hex) the first time; later it must be the same. */
export const bindCa = (caFingerprint: string): Rule<void> => ({
  reads: [one(keys.domain)],
  decide: (state) => {
    const known = state.domain()?.value.caFingerprint;
    if (known === caFingerprint) return settled(undefined);
    if (known !== undefined) {
      throw new Vl3Error(
        'failed-precondition',
        `the store belongs to the CA with the fingerprint ${known}, and this is ${caFingerprint}: restore store.db and ca/ from one backup`,
      );
    }
    return {
      compares: [state.unchanged(keys.domain)],
      operations: [put(keys.domain, domainSchema, { caFingerprint })],
      answer: undefined,
    };
  },
});
