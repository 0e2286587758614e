// The log of decisions as it was exported: whether its lines are chains, one of what admins did and one for each whose nodes were
// decided on, and whether the domain has signed where each ends.

import { z } from 'zod';
import { hashOf, NO_HASH } from '../registry/admission-log.ts';
import { type LogEntry, logEntry } from '../registry/admission-model.ts';
import { type SignedRecord, signingInput } from '../registry/record.ts';
import type { VerifyGrant } from './grant.ts';

export const HEAD_CONTEXT = 'vl3 admission log head v1';

const head = z.strictObject({
  trustDomain: z.string(),
  sequence: z.number().int().min(0),
  hash: z.string(),
  /** How many lines of this chain there are; absent, as are others' chains: there was but one, and that was not said. */
  kept: z.number().int().min(0).optional(),
  /** The chains that are somebody's own. */
  logs: z
    .array(z.strictObject({ of: z.string(), hash: z.string(), kept: z.number().int().min(0) }))
    .optional(),
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
  /** The last line of each chain so far. */
  const ends = new Map<string, LogEnd>();
  let last = 0;
  for (const line of lines) {
    const entry = parse(logEntry, line);
    const where = last === 0 ? 'the first entry' : `the entry after number ${last}`;
    if (entry === undefined) {
      problems.push(`${where} cannot be read`);
      break;
    }
    const before = ends.get(entry.of ?? '');
    // The oldest of a chain go: of what is there first, nothing is known but that it is first when it says so.
    const follows = before?.hash ?? (entry.sequence === 1 ? NO_HASH : undefined);
    if (entry.sequence <= last || (follows !== undefined && entry.previous !== follows))
      problems.push(`${where} does not follow: something was changed, taken out or put in`);
    entries.push(entry);
    last = Math.max(last, entry.sequence);
    ends.set(entry.of ?? '', { hash: hashOf(line), count: (before?.count ?? 0) + 1 });
  }
  const signed = signedHead && checkHead(signedHead, verify, now);
  if (signed === undefined) problems.push('its head is not signed by the domain');
  else problems.push(...endProblems(ends, last, signed));
  return { entries, head: signed, problems };
};

interface LogEnd {
  readonly hash: string;
  readonly count: number;
}

/** Whether each chain is as long, and ends, as the domain signed, and none is missing or more. */
const endProblems = (
  ends: ReadonlyMap<string, LogEnd>,
  last: number,
  { sequence, hash, kept, logs = [] }: ExportedHead,
): string[] => {
  const problems: string[] = [];
  if (last !== sequence)
    problems.push(`it ends at number ${last}, and not where the domain signed (${sequence})`);
  const signed = new Map<string, { readonly hash: string; readonly kept?: number | undefined }>([
    ['', { hash, kept }],
    ...logs.map((one) => [one.of, one] as const),
  ]);
  for (const of of new Set([...signed.keys(), ...ends.keys()])) {
    const end = ends.get(of) ?? { hash: NO_HASH, count: 0 };
    const should = signed.get(of) ?? { hash: NO_HASH };
    const whose = of === '' ? 'what admins did' : of === '@nodes' ? 'nodes of the domain' : `nodes of ${of}`;
    if (end.hash !== should.hash)
      problems.push(`what is there about ${whose} does not end where the domain signed`);
    else if ((should.kept ?? end.count) !== end.count)
      problems.push(
        `there are ${end.count} lines about ${whose}, and not as many as the domain signed (${should.kept})`,
      );
  }
  return problems;
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
