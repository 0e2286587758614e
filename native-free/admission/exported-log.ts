// The log of decisions as it was exported: whether its lines are a chain, and whether the domain has signed where it ends.

import { z } from 'zod';
import { hashOf, NO_LOG } from '../registry/admission-log.ts';
import { type LogEntry, logEntry } from '../registry/admission-model.ts';
import { type SignedRecord, signingInput } from '../registry/record.ts';
import type { VerifyGrant } from './grant.ts';

export const HEAD_CONTEXT = 'vl3 admission log head v1';

const head = z.strictObject({
  trustDomain: z.string(),
  sequence: z.number().int().min(0),
  hash: z.string(),
  /** When it was signed, unix ms. */
  at: z.number(),
});
export type ExportedHead = z.infer<typeof head>;

export interface CheckedLog {
  readonly entries: readonly LogEntry[];
  readonly head: ExportedHead | undefined;
  /** Sentences; none: it is as the domain signed it. */
  readonly problems: readonly string[];
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** `now` in unix ms: the head must have been signed by a certificate that is good then. Never throws. */
export const checkLog = (
  lines: readonly Uint8Array[],
  signedHead: SignedRecord | undefined,
  verify: VerifyGrant,
  now: number,
): CheckedLog => {
  const problems: string[] = [];
  const entries: LogEntry[] = [];
  let previous: { sequence: number; hash: string } | undefined;
  for (const line of lines) {
    const entry = parse(logEntry, line);
    const where = previous === undefined ? 'the first entry' : `the entry after number ${previous.sequence}`;
    if (entry === undefined) {
      problems.push(`${where} cannot be read`);
      break;
    }
    const follows = previous ?? (entry.sequence === 1 ? NO_LOG : undefined);
    if (follows !== undefined && (entry.sequence !== follows.sequence + 1 || entry.previous !== follows.hash))
      problems.push(`${where} does not follow: something was changed, taken out or put in`);
    entries.push(entry);
    previous = { sequence: entry.sequence, hash: hashOf(line) };
  }
  const signed = signedHead && checkHead(signedHead, verify, now);
  if (signed === undefined) problems.push('its head is not signed by the domain');
  const end = previous ?? NO_LOG;
  if (signed !== undefined && (signed.sequence !== end.sequence || signed.hash !== end.hash))
    problems.push(`it ends at number ${end.sequence}, and not where the domain signed (${signed.sequence})`);
  return { entries, head: signed, problems };
};

const checkHead = (signed: SignedRecord, verify: VerifyGrant, now: number): ExportedHead | undefined => {
  const input = signingInput(HEAD_CONTEXT, signed.record);
  const signer = verify(signed.certificateChain, input, signed.signature, now);
  const read = parse(head, signed.record);
  return signer?.trustDomain === read?.trustDomain ? read : undefined;
};

const parse = <T>(schema: z.ZodType<T>, bytes: Uint8Array): T | undefined => {
  try {
    return schema.parse(JSON.parse(decoder.decode(bytes)));
  } catch {
    return undefined;
  }
};
