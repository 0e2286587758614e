import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatIntermediates, readIntermediates } from '../../../src/identity/intermediates.ts';

const bytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

test('intermediate CAs come back as they were, and a leaf alone has none', () => {
  const chain = [bytes(500), bytes(900), bytes(901)];
  expect(readIntermediates(formatIntermediates(chain))).toEqual(chain.slice(1));
  expect(formatIntermediates([bytes(5)])).toBeUndefined();
  expect(readIntermediates(undefined)).toEqual([]);
});

test('more than a chain holds, or what is no such header, is none at all', () => {
  const one = Buffer.from(bytes(100)).toString('base64');
  for (const header of [
    [one, one, one, one].join(','),
    '',
    ',',
    `${one},`,
    `${one}, ${one}`,
    '!',
    'A'.repeat(60_000),
  ])
    expect(readIntermediates(header)).toEqual([]);
  expect(readIntermediates([one])).toEqual([]);
});

test('nothing throws', () => {
  fc.assert(fc.property(fc.string(), (header) => void readIntermediates(header)));
});
