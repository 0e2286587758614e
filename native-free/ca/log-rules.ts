// Which heads of a registry's log of decisions a signer apart signs: none that ends before one that it signed, and under the
// same number none that says something else. What lies between two heads it does not see: whoever keeps what was exported
// compares that.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import type { DocumentStore } from '../reconcile/document-store.ts';
import { LOG, OWN_LOG } from './ledger.ts';

/** As far as clocks of a registry and its signer may differ. */
const CLOCK_MS = 60 * 60 * 1000;
const MAX_HEAD_BYTES = 262_144;

const schema = z.looseObject({
  trustDomain: z.string(),
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  hash: z.string().max(128),
  logs: z
    .array(z.looseObject({ of: z.string().max(255), hash: z.string().max(128) }))
    .max(1024)
    .default([]),
  at: z.number(),
});

const refuse = (why: string): Vl3Error =>
  new Vl3Error('permission-denied', `the signer does not sign this end of a log: ${why}`);

/** Notes the head that is to be signed. Throws Vl3Error('permission-denied'). */
export const noteHead = (store: DocumentStore, bytes: Uint8Array, home: string, now: number): void =>
  store.transact(() => {
    const { trustDomain, sequence, hash, logs, at } = read(bytes);
    if (trustDomain !== home) throw refuse(`it is of ${trustDomain}`);
    if (Math.abs(at - now) > CLOCK_MS) throw refuse('its time is not now: are both clocks right?');
    const ends = Object.fromEntries([['', hash], ...logs.map((one) => [one.of, one.hash])]);
    const before = store.get(LOG, OWN_LOG);
    const isBack = before !== undefined && sequence < before.sequence;
    // A chain that is forgotten goes whole.
    const isOther =
      before?.sequence === sequence &&
      Object.entries(ends).some(([of, end]) => (before.ends[of] ?? end) !== end);
    if (isBack || isOther)
      throw refuse(
        `it ends at number ${sequence}, and one that ends ${isBack ? `at ${before.sequence}` : 'otherwise'} was signed: after the registry was restored, or began anew, say so with \`vl3 ca forget-log\``,
      );
    store.put(LOG, OWN_LOG, { sequence, ends });
  });

/** A log that was restored from a backup, or begins anew, is another one from now on. */
export const forgetHead = (store: DocumentStore): void => store.delete(LOG, OWN_LOG);

const read = (bytes: Uint8Array): z.infer<typeof schema> => {
  try {
    if (bytes.length > MAX_HEAD_BYTES) throw new Error('too long');
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch {
    throw refuse('it is none');
  }
};
