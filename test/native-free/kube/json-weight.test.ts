// What counts as heavy, and what does not.

import { expect, test } from 'vitest';
import { isHeavyJson } from '../../../native-free/kube/json-weight.ts';

const heavy = (text: string, most = 10): boolean => isHeavyJson(new TextEncoder().encode(text), most);

test.each([
  ['brackets', '['.repeat(10)],
  ['empty objects', `[${'{},'.repeat(5)}{}]`],
  ['numbers', `[${'1,'.repeat(10)}1]`],
  ['keys', `{${'"a":1,'.repeat(10)}"b":2}`],
  ['what comes after a string that ends in a backslash', `["\\\\"${',1'.repeat(10)}]`],
])('%s are counted', (_, text) => {
  expect(heavy(text)).toBe(true);
  expect(heavy(text, 40)).toBe(false);
});

test.each([
  ['a few values', '[1,{"a":[2]}]'],
  ['brackets in a string', JSON.stringify(['[{,'.repeat(100)])],
  ['brackets behind a quote in a string', JSON.stringify([`"${'[{,'.repeat(100)}`])],
  ['closing brackets', ']'.repeat(100)],
  ['a string that does not end', `"${'['.repeat(100)}`],
  ['one that ends in a backslash', `"${'['.repeat(100)}\\`],
  ['nothing', ''],
])('%s: no', (_, text) => {
  expect(heavy(text)).toBe(false);
});
