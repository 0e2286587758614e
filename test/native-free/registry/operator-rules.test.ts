import { beforeEach, expect, test } from 'vitest';
import {
  checkOperator,
  forgetOperators,
  listOperators,
  noteOperator,
  noteSeenOperator,
  revokeOperator,
} from '../../../native-free/registry/operator-rules.ts';
import { beginAnew, HOUR, keysBelow, NOW, refused, run } from './rules-world.ts';

beforeEach(beginAnew);

const of = (serial: string, notBefore = NOW - 1000) => ({
  ...{ name: 'alice', serial, notBefore, notAfter: NOW + HOUR },
});
const counts = (serial: string, notBefore?: number, barsName = false) =>
  refused(() => checkOperator(of(serial, notBefore), { barsName }));

test('what was given out counts until it is revoked, and what is given out afterwards counts', async () => {
  await run(noteOperator(of('1'), 'root', NOW));
  await run(noteOperator(of('2'), 'root', NOW));
  expect(await counts('1')).toBe('accepted');
  expect(await run(revokeOperator('alice', NOW))).toBe(2);
  for (const serial of ['1', '2'])
    expect(await counts(serial)).toMatch(/^unauthenticated: .* was revoked: ask an admin for a new one/);
  // Certificates begin before they are made: this one is known to have been made later.
  await run(noteOperator(of('3'), 'root', NOW));
  expect(await counts('3')).toBe('accepted');
  expect(await counts('1')).toMatch(/revoked/);
  expect(await run(revokeOperator('alice', NOW + 1))).toBe(1);
  const [alice] = await run(listOperators(NOW));
  expect(alice?.credentials.map(({ serial, revokedAt }) => [serial, revokedAt])).toEqual([
    ['1', NOW],
    ['2', NOW],
    ['3', NOW + 1],
  ]);
});

test('what was made elsewhere, and never used, is revoked with its name by when it was made', async () => {
  expect(await counts('9')).toBe('accepted');
  expect(await run(revokeOperator('alice', NOW))).toBe(0);
  expect(await counts('9', NOW - 1)).toMatch(/revoked/);
  expect(await counts('9', NOW)).toMatch(/revoked/);
  expect(await counts('10', NOW + 1)).toBe('accepted');
  await run(noteSeenOperator(of('10', NOW + 1), NOW + 2));
  await run(noteSeenOperator(of('10', NOW + 1), NOW + 2));
  expect(await run(listOperators(NOW))).toMatchObject([
    { name: 'alice', credentials: [{ serial: '10', notedAt: NOW + 2 }] },
  ]);
});

test('where another issuer makes credentials all the time, a revoked name stays out', async () => {
  await run(noteSeenOperator(of('1'), NOW));
  await run(revokeOperator('alice', NOW));
  expect(await counts('2', NOW + HOUR, true)).toMatch(/another name/);
  expect(
    await refused(() => checkOperator({ ...of('2', NOW + HOUR), name: 'bob' }, { barsName: true })),
  ).toBe('accepted');
});

test('no more are kept than a name may have, and what has ended is forgotten, a revocation is not', async () => {
  for (let i = 0; i < 32; i++) await run(noteOperator(of(`s${i}`), 'root', NOW));
  expect(await refused(() => noteOperator(of('more'), 'root', NOW))).toMatch(/^resource-exhausted/);
  // One that is used all the same is not noted, and is revoked with the rest.
  await run(noteSeenOperator(of('more'), NOW));
  expect(await counts('more')).toBe('accepted');
  await run(revokeOperator('alice', NOW));
  expect(await counts('more')).toMatch(/revoked/);
  await run(noteOperator({ ...of('1'), name: 'bob' }, 'root', NOW));
  await run(forgetOperators(NOW + HOUR));
  expect(await keysBelow('/operators/')).toEqual(['/operators/alice']);
  await run(noteOperator({ ...of('after'), notAfter: NOW + 3 * HOUR }, 'root', NOW + HOUR));
  expect(await counts('s1')).toMatch(/revoked/);
});
