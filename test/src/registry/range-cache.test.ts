import { expect, test } from 'vitest';
import type { Entry } from '../../../native-free/registry/transaction.ts';
import { RangeCache } from '../../../src/registry/range-cache.ts';

const entry = (key: string, revision = 1): Entry => ({
  key,
  value: new Uint8Array([revision]),
  createRevision: revision,
  modRevision: revision,
  lease: undefined,
});
const told = (cache: RangeCache, prefix: string) =>
  cache.get(prefix)?.map(({ key, modRevision }) => `${key}@${modRevision}`);

test('a range is kept in the order of its keys as it is written on', () => {
  const cache = new RangeCache();
  cache.set('/a/b/', [entry('/a/b/2')]);
  cache.put(entry('/a/b/3', 2));
  cache.put(entry('/a/b/1', 3));
  cache.put(entry('/a/b/2', 4));
  cache.delete('/a/b/3');
  cache.delete('/a/b/none');
  expect(told(cache, '/a/b/')).toEqual(['/a/b/1@3', '/a/b/2@4']);
});

test('a write goes to every range that holds its key, and to no other', () => {
  const cache = new RangeCache();
  cache.set('/a/', []);
  cache.set('/a/b/', []);
  cache.set('/a/bc/', []);
  cache.put(entry('/a/b/1'));
  expect(told(cache, '/a/')).toEqual(['/a/b/1@1']);
  expect(told(cache, '/a/b/')).toEqual(['/a/b/1@1']);
  expect(told(cache, '/a/bc/')).toEqual([]);
});

test('what was not read is not known', () => {
  const cache = new RangeCache();
  cache.put(entry('/a/1'));
  expect(cache.get('/a/')).toBeUndefined();
  cache.set('/a', [entry('/a/1')]);
  expect(cache.get('/a')).toBeUndefined();
});

test('it never holds more than its limit', () => {
  const cache = new RangeCache(10);
  cache.set('/a/', [entry('/a/1')]);
  cache.set(
    '/b/',
    Array.from({ length: 9 }, (_, i) => entry(`/b/${i}`)),
  );
  expect(cache.get('/a/')).toBeUndefined();
  expect(cache.get('/b/')).toHaveLength(9);
  cache.put(entry('/b/9'));
  expect(cache.get('/b/')).toBeUndefined();
});
