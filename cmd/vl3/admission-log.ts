// vl3 admission log: what was decided, verified to be as the domain signed it; saved to a file, and verified from one.

import { readFile, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { z } from 'zod';
import type { CheckedLog } from '../../native-free/admission/exported-log.ts';
import { Vl3Error } from '../../native-free/error.ts';
import type { LogEntry } from '../../native-free/registry/admission-model.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { fromBase64, toBase64 } from '../../src/base64.ts';
import type { AdmissionClient } from '../../src/registry/client.ts';
import { type AdminOptions, withAdminOptions, withAdmission } from './admin.ts';
import { type Context, EXIT } from './context.ts';
import { print, printTable } from './output.ts';

interface LogOptions extends AdminOptions {
  network?: string;
  save?: string;
  verify?: string;
}

interface Exported {
  readonly lines: readonly Uint8Array[];
  readonly head: SignedRecord | undefined;
}

/** The last line of a saved log. */
const savedHead = z.object({
  head: z.base64(),
  signature: z.base64(),
  certificateChain: z.array(z.base64()),
});

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const download = async (client: AdmissionClient): Promise<Exported> => {
  const lines: Uint8Array[] = [];
  let head: SignedRecord | undefined;
  for await (const part of client.exportAdmissionLog({})) {
    lines.push(...part.entries);
    if (part.head === undefined) continue;
    const { head: record, signature, certificateChain } = part.head;
    head = { record, signature, certificateChain };
  }
  return { lines, head };
};

const save = async (file: string, { lines, head }: Exported): Promise<void> => {
  const signed = head && {
    head: toBase64(head.record),
    signature: toBase64(head.signature),
    certificateChain: head.certificateChain.map(toBase64),
  };
  const text = [...lines.map((line) => decoder.decode(line)), JSON.stringify(signed ?? null)].join('\n');
  await writeFile(file, `${text}\n`, { mode: 0o600, flag: 'wx' }).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('failed-precondition', `the log cannot be saved: ${why}`, { cause });
  });
};

const load = async (file: string): Promise<Exported> => {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('not-found', `the saved log cannot be read: ${why}`, { cause });
  });
  const lines = text.trimEnd().split('\n');
  const last = lines.pop() ?? '';
  let head: SignedRecord | undefined;
  try {
    const read = savedHead.parse(JSON.parse(last));
    head = {
      record: fromBase64(read.head),
      signature: fromBase64(read.signature),
      certificateChain: read.certificateChain.map(fromBase64),
    };
  } catch {
    // Reported as a log whose head is not signed.
  }
  return { lines: lines.map((line) => encoder.encode(line)), head };
};

/** When its head says that it was signed: a log that was saved outlives the certificate that signed it. */
const signedAt = ({ head }: Exported): number => {
  try {
    return z.object({ at: z.number() }).parse(JSON.parse(decoder.decode(head?.record))).at;
  } catch {
    return Date.now();
  }
};

const whoOf = (entry: LogEntry): string => {
  if (entry.admin !== undefined) return `admin ${entry.admin}`;
  // A domain by itself, when it took an invitation.
  if (entry.node === undefined) return `${entry.trustDomain ?? '-'}${timesOf(entry)}`;
  const of = entry.namespace === undefined ? '' : `${entry.namespace}/`;
  return `${of}${entry.workload ?? ''} on ${entry.node}@${entry.trustDomain ?? ''}`;
};

const timesOf = ({ count, since, until }: LogEntry): string => {
  if (count === undefined) return '';
  const [first, last] = [since, until].map((at) => (at === undefined ? '' : new Date(at).toISOString()));
  return ` ${count} times from ${first} to ${last}`;
};

const printLog = (context: Context, entries: readonly LogEntry[]): void =>
  printTable(
    context,
    ['NUMBER', 'WHEN', 'NETWORK', 'WHAT', 'WHO', 'RULE', 'WOULD ADMIT'],
    entries.map((one) => [
      String(one.sequence),
      new Date(one.at).toISOString(),
      one.network ?? '',
      one.kind,
      whoOf(one),
      one.rule ?? '-',
      one.dryRun?.join(' ') ?? '-',
    ]),
  );

export const addAdmissionLog = (admission: Command, context: Context): void => {
  withAdminOptions(admission.command('log'), context)
    .description('what was decided of whom, when and by which rule, verified to be as the domain signed it')
    .option('--network <name>', 'show this network only')
    .option('--save <file>', 'write the whole log with its signed head, to be verified later')
    .option('--verify <file>', 'show and verify a saved log')
    .addHelpText(
      'after',
      `
Rules that were made and deleted, and each change of a decision on networks whose rules were touched. What is refused again is counted,
and told in a line an hour (refused-again). Each entry holds the hash of the one before, and the domain signs where the log ends: what
was changed, taken out or cut off is found. The oldest go: of 10000 entries about rules and partners, of 10000 about nodes of the
domain, and of 2000 about those of each partner, which push out nobody else's. Save it before. Exit code ${EXIT.unhealthy}: it is not as the domain signed it.

Examples:
  vl3 admission log --network red
  vl3 admission log --save admission-2026-11.log
  vl3 admission log --verify admission-2026-11.log -o json`,
    )
    .action(async (options: LogOptions) => {
      const { checkLog } = await import('../../native-free/admission/exported-log.ts');
      const checked = await withAdmission(options.admin, async ({ client, verify }): Promise<CheckedLog> => {
        const exported = options.verify === undefined ? await download(client) : await load(options.verify);
        if (options.save !== undefined) await save(options.save, exported);
        return checkLog(exported.lines, exported.head, verify, signedAt(exported));
      });
      const entries = checked.entries.filter(
        ({ network }) => options.network === undefined || network === options.network,
      );
      const { head, problems } = checked;
      await print(context, options.output, { verified: problems.length === 0, problems, head, entries }, () =>
        printLog(context, entries),
      );
      for (const problem of problems) context.err(`vl3: the log is not as the domain signed it: ${problem}`);
      if (problems.length > 0) context.exit(EXIT.unhealthy);
    });
};
