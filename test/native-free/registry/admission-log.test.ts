// The log of decisions: whose lines push out whose, what is only counted, and what of it is found when it was changed.

import { beforeEach, describe, expect, test } from 'vitest';
import { checkLog } from '../../../native-free/admission/exported-log.ts';
import {
  LogWriter,
  logReads,
  MAX_PARTNER_LOG_ENTRIES,
  NO_LOG,
} from '../../../native-free/registry/admission-log.ts';
import { type LogEntry, logHead } from '../../../native-free/registry/admission-model.ts';
import { createAdmissionRule, deleteAdmissionRule } from '../../../native-free/registry/admission-rules.ts';
import { putAttachments } from '../../../native-free/registry/announcement-rules.ts';
import { keys, one } from '../../../native-free/registry/keys.ts';
import { tellRefusals } from '../../../native-free/registry/refusal-rules.ts';
import { put, type Rule } from '../../../native-free/registry/rules.ts';
import { readLog } from '../../../src/registry/decision-log.ts';
import {
  attachment,
  beginAnew,
  enrolled,
  HOUR,
  join,
  keysBelow,
  NOW,
  red,
  run,
  store,
} from './rules-world.ts';

const HOME = 'test.example';
const PARTNER = 'partner.example';
/** Its name is what JavaScript calls something else. */
const AWKWARD = '__proto__';
const CHANGE = { admin: 'root', now: NOW, trustDomain: HOME };

beforeEach(beginAnew);

const writing = (of: string | undefined, lines: readonly { readonly node?: string }[]): Rule<void> => ({
  reads: of === undefined ? [one(keys.logHead)] : logReads(of),
  decide: (state) => {
    const log =
      of === undefined ? new LogWriter(state.logHead()?.value ?? NO_LOG, NOW) : LogWriter.of(state, of, NOW);
    for (const line of lines) log.add({ kind: of === undefined ? 'rule-created' : 'refused', ...line });
    return { compares: [state.unchanged(keys.logHead)], operations: log.operations, answer: undefined };
  },
});
const write = (of: string | undefined, ...nodes: string[]) =>
  run(
    writing(
      of,
      nodes.map((node) => ({ node })),
    ),
  );

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** As the domain signs it. */
const exported = async () => {
  const { lines, head } = await readLog(store);
  const signed = (changed: object = head) => ({
    record: encoder.encode(JSON.stringify({ trustDomain: HOME, at: NOW, ...changed })),
    signature: new Uint8Array(64),
    certificateChain: [],
  });
  const check = (changed: readonly Uint8Array[] = lines, of?: object) =>
    checkLog(changed, signed(of), () => ({ trustDomain: HOME, notAfter: NOW + 1 }), NOW);
  return { lines, head, check };
};

const wordsOf = (entries: readonly LogEntry[]): (string | undefined)[] => entries.map(({ node }) => node);

describe('lines', () => {
  test('are told in the order in which they were written, whosever they are, and verified chain by chain', async () => {
    await write(undefined, 'a');
    await write(PARTNER, 'b', 'c');
    await write('@nodes', 'd');
    await write(AWKWARD, 'e');
    await write(undefined, 'f');
    await write(PARTNER, 'g');
    const { check, lines, head } = await exported();
    const { entries, problems } = check();
    expect([wordsOf(entries), problems]).toEqual([['a', 'b', 'c', 'd', 'e', 'f', 'g'], []]);
    expect(entries.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5, 6, 7]);

    const changed = (index: number, from: string, to: string) =>
      lines.with(index, encoder.encode(decoder.decode(lines[index]).replace(from, to)));
    expect(check(changed(1, '"b"', '"x"')).problems.join()).toMatch(/after number 2 does not follow/);
    // The last of a chain, though others come after it.
    expect(check(changed(4, '"e"', '"x"')).problems).toEqual([
      'what is there about nodes of __proto__ does not end where the domain signed',
    ]);
    expect(check(changed(3, '@nodes', PARTNER)).problems).not.toEqual([]);
    for (let i = 0; i < lines.length; i++) expect(check(lines.toSpliced(i, 1)).problems).not.toEqual([]);
    expect(check(lines.toSpliced(1, 2, ...lines.slice(1, 3).reverse())).problems).not.toEqual([]);
    // Nor is one left out of the head, or made up.
    expect(check(lines, { ...head, logs: head.logs.slice(1) }).problems).not.toEqual([]);
    const more = { of: 'x.example', kept: 1, hash: 'f'.repeat(64) };
    expect(check(lines, { ...head, logs: [...head.logs, more] }).problems).toEqual([
      'what is there about nodes of x.example does not end where the domain signed',
    ]);
  });

  test('of a partner push out its own, and nobody else’s', async () => {
    await write(undefined, 'rule');
    await write('@nodes', 'ours');
    await write('other.example', 'theirs');
    const many = Array.from({ length: 100 }, (_, i) => `n${i}`);
    for (let written = 0; written <= MAX_PARTNER_LOG_ENTRIES; written += 20)
      await write(PARTNER, ...many.slice(0, 20));
    const { check } = await exported();
    const { entries, problems } = check();
    expect(problems).toEqual([]);
    expect(wordsOf(entries).slice(0, 3)).toEqual(['rule', 'ours', 'theirs']);
    expect(entries).toHaveLength(3 + MAX_PARTNER_LOG_ENTRIES);
    expect(await keysBelow('/admission-log-of/partner.example/')).toHaveLength(MAX_PARTNER_LOG_ENTRIES);
  });

  test('of a store from before there were several go on in one chain', async () => {
    await write(undefined, 'a', 'b');
    const head = (await readLog(store)).head;
    const { sequence, hash } = head;
    await store.transact([], [put(keys.logHead, logHead, { sequence, hash })]);
    await write(PARTNER, 'c');
    await write(undefined, 'd');
    const { check } = await exported();
    expect([wordsOf(check().entries), check().problems]).toEqual([['a', 'b', 'c', 'd'], []]);
    expect(await keysBelow('/admission-log/')).toHaveLength(3);
  });
});

describe('what is refused again', () => {
  const asked = (count: number, from: number, labels: (i: number) => Record<string, string>) =>
    Array.from({ length: count }, (_, i) => ({
      ...attachment(`a${from + i}`, `${own}.${i + 10}`),
      labels: labels(from + i),
    }));
  const refusedLines = async () =>
    (await exported()).check().entries.filter(({ kind }) => kind.startsWith('refused'));
  const putAll = async (wanted: ReturnType<typeof asked>, now: number): Promise<void> => {
    while ((await run(putAttachments('red', 'n1', wanted, now, HOME))).remaining > 0);
  };

  let own = '';
  beforeEach(async () => {
    await red();
    await enrolled('n1');
    const { leases } = await join('n1');
    own = leases[0]?.prefix.replace(/\.\d+\/\d+$/, '') ?? '';
    const rule = { network: 'red', name: 'other', trustDomain: HOME, isDryRun: false, createdAt: 0 };
    await run(createAdmissionRule({ ...rule, labels: { app: 'other' } }, CHANGE));
    await run(deleteAdmissionRule('red', 'home', CHANGE));
  });

  test('under other ids is counted, and told in one line an hour with the first and the last of it', async () => {
    await putAll(
      asked(1, 0, () => ({ app: 'web' })),
      NOW,
    );
    for (let i = 1; i <= 5; i++)
      await putAll(
        asked(10, i * 10, () => ({ app: 'web' })),
        NOW + i * 1000,
      );
    expect(await refusedLines()).toHaveLength(1);
    expect(await run(tellRefusals(HOME, NOW + HOUR))).toBe(false);
    expect(await refusedLines()).toHaveLength(1);
    await run(tellRefusals(HOME, NOW + HOUR + 1000));
    await run(tellRefusals(HOME, NOW + HOUR + 1000));
    expect((await refusedLines()).slice(1)).toMatchObject([
      {
        kind: 'refused-again',
        network: 'red',
        trustDomain: HOME,
        count: 50,
        since: NOW + 1000,
        until: NOW + 5000,
      },
    ]);
    expect((await exported()).check().problems).toEqual([]);
    expect(await keysBelow('/admission-refusals/')).toEqual([]);
  });

  test('beyond as many questions as a node may have told is counted as well, once for each time that it asks', async () => {
    for (const from of [0, 150])
      await putAll(
        asked(150, from, (i) => ({ app: `web${i}` })),
        NOW,
      );
    expect(await refusedLines()).toHaveLength(256);
    await run(tellRefusals(HOME, NOW + 2 * HOUR));
    expect((await refusedLines()).at(-1)).toMatchObject({ kind: 'refused-again', count: 44 });
    // What was told in a line of its own, and is asked for again under the same id, is nothing new.
    await putAll(
      asked(200, 0, (i) => ({ app: `web${i}` })),
      NOW + 3 * HOUR,
    );
    await run(tellRefusals(HOME, NOW + 5 * HOUR));
    expect(await refusedLines()).toHaveLength(257);
  });
});
