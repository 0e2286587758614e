// What a node may say of itself and of its attachments.

import { beforeEach, describe, expect, test } from 'vitest';
import { putAttachments, putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { below } from '../../../native-free/registry/keys.ts';
import { releasePrefix } from '../../../native-free/registry/lease-rules.ts';
import { record } from './fixtures.ts';
import {
  attachment,
  beginAnew,
  claim,
  enrolled,
  join,
  keysBelow,
  NOW,
  red,
  refused,
  run,
  store,
  transactor,
} from './rules-world.ts';

beforeEach(beginAnew);

describe('records and attachments', () => {
  beforeEach(async () => {
    await red();
    await enrolled('n1', 'n2');
    await join('n1');
    await join('n2');
  });

  test("a record that names another node's prefix, or one that nobody leased, is refused", async () => {
    for (const prefix of ['10.60.1.0/24', '10.60.9.0/24', '10.60.0.0/16', '0.0.0.0/0']) {
      expect(await refused(() => putRecord('red', 'n1', record({ prefixes: [claim(prefix)] })))).toMatch(
        /^permission-denied: .*not leased/,
      );
    }
    expect(await keysBelow(below.records('red'))).toEqual([]);
  });

  test('a record that claims its prefix from an earlier time than it was leased is refused', async () => {
    const older = record({ prefixes: [claim('10.60.0.0/24', NOW - 1)] });
    expect(await refused(() => putRecord('red', 'n1', older))).toMatch(/^permission-denied: .*was leased at/);
  });

  test('a sequence that does not grow is refused, the same bytes again change nothing', async () => {
    const first = record({ sequence: 5 });
    await run(putRecord('red', 'n1', first));
    const { revision } = await store.read([]);
    expect(await run(putRecord('red', 'n1', first))).toBe(revision);
    expect((await store.read([])).revision).toBe(revision);
    const other = record({ sequence: 5, record: Buffer.from('other').toString('base64') });
    expect(await refused(() => putRecord('red', 'n1', other))).toMatch(/must be past 5/);
    expect(await refused(() => putRecord('red', 'n1', record({ sequence: 4 })))).toMatch(/must be past 5/);
  });

  test('a record whose prefix is given back at the same moment is not stored', async () => {
    const rule = putRecord('red', 'n1', record({ prefixes: [claim('10.60.0.0/24')] }));
    const before = await transactor.read(rule.reads);
    await run(releasePrefix('red', 'n1', '10.60.0.0/24'));
    const plan = rule.decide(before);
    expect((await store.transact(plan.compares, plan.operations)).succeeded).toBe(false);
  });

  test('attachments become what was announced, and only what changed is written', async () => {
    await run(
      putAttachments('red', 'n1', [attachment('a', '10.60.0.9'), attachment('b', '10.60.0.10')], NOW),
    );
    const { revision } = await store.read([]);
    await run(
      putAttachments('red', 'n1', [attachment('a', '10.60.0.9'), attachment('b', '10.60.0.10')], NOW + 5),
    );
    expect((await store.read([])).revision).toBe(revision);
    await run(
      putAttachments('red', 'n1', [attachment('b', '10.60.0.10'), attachment('c', 'fd00:60::5')], NOW),
    );
    expect(await keysBelow(below.attachments())).toEqual(['/attachments/red/n1/b', '/attachments/red/n1/c']);
  });

  test('one node never touches the attachments of another', async () => {
    await run(putAttachments('red', 'n2', [attachment('a', '10.60.1.9')], NOW));
    await run(putAttachments('red', 'n1', [], NOW));
    expect(await keysBelow(below.attachments())).toEqual(['/attachments/red/n2/a']);
  });

  test('a thousand attachments are written in bounded transactions', async () => {
    const many = Array.from({ length: 1000 }, (_, i) =>
      attachment(`a${i}`, `fd00:60::${(i + 1).toString(16)}`),
    );
    let rounds = 1;
    while ((await run(putAttachments('red', 'n1', many, NOW))).remaining > 0) rounds++;
    expect(rounds).toBe(8);
    expect(await keysBelow(below.attachments('red', 'n1'))).toHaveLength(1000);
  });

  test.each([
    [attachment('a', '10.60.1.9'), /in no prefix leased/],
    [attachment('a', '010.60.0.9'), /attachments\[0\].addresses.0/],
    [attachment('a', 'FD00:60::1'), /write "FD00:60::1" as fd00:60::1/],
    [attachment('a'), /an attachment has an address/],
    [attachment('../../x', '10.60.0.9'), /attachments\[0\].id/],
    [{ ...attachment('a', '10.60.0.9'), interfaceName: 'a'.repeat(16) }, /interfaceName/],
    [{ ...attachment('a', '10.60.0.9'), interfaceName: 'lo' }, /lo and eth0/],
    [{ ...attachment('a', '10.60.0.9'), interfaceName: 'a/b' }, /interfaceName/],
    [{ ...attachment('a', '10.60.0.9'), workload: 'a'.repeat(254) }, /workload/],
    [{ ...attachment('a', '10.60.0.9'), labels: { 'not a key': 'x' } }, /labels/],
    [{ ...attachment('a', '10.60.0.9'), labels: { k: 'v'.repeat(64) } }, /labels/],
    [
      {
        ...attachment('a', '10.60.0.9'),
        labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ''])),
      },
      /at most 64 labels/,
    ],
  ])('a malformed attachment %# is refused with the field', async (item, reason) => {
    expect(await refused(() => putAttachments('red', 'n1', [item], NOW))).toMatch(reason);
    expect(await keysBelow(below.attachments())).toEqual([]);
  });

  test('an id or an address that comes twice is refused', async () => {
    const twice = [attachment('a', '10.60.0.9'), attachment('a', '10.60.0.10')];
    expect(await refused(() => putAttachments('red', 'n1', twice, NOW))).toMatch(/"a" comes twice/);
    const same = [attachment('a', '10.60.0.9'), attachment('b', '10.60.0.9')];
    expect(await refused(() => putAttachments('red', 'n1', same, NOW))).toMatch(/10.60.0.9 comes twice/);
  });
});
