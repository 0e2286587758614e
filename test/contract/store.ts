// What every store must do. Run by test/src/registry/*-store.test.ts; a store that passes may stand under the registry.

import { describe, expect, onTestFinished, test } from 'vitest';
import type { Batch } from '../../native-free/registry/transaction.ts';
import { CompactedError, type Store } from '../../src/registry/store.ts';

export interface StoreHarness {
  /** A new, empty store. `keepHistory`: how many batches a watch can resume from, at least. */
  create(options?: { keepHistory?: number }): Promise<Store>;
  /** The shortest lease the store can keep. */
  readonly leaseTtlMs: number;
}

/** For what comes within milliseconds on a machine that has nothing else to do. */
const PATIENCE_MS = 30_000;

const bytes = (value: string) => new TextEncoder().encode(value);
const put = (key: string, value = 'x', lease?: string) =>
  lease === undefined
    ? { kind: 'put' as const, key, value: bytes(value) }
    : { kind: 'put' as const, key, value: bytes(value), lease };
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const keysBelow = async (store: Store, prefix: string) =>
  (await store.read([{ prefix }])).entries.map(({ key }) => key);
const stored = async (store: Store, key: string) => {
  const entry = (await store.read([{ key }])).entries[0];
  return entry && new TextDecoder().decode(entry.value);
};

/** Takes batches until `count` changes have come. */
const take = async (watch: AsyncIterable<Batch>, count: number): Promise<Batch[]> => {
  const batches: Batch[] = [];
  let seen = 0;
  for await (const batch of watch) {
    batches.push(batch);
    seen += batch.changes.length;
    if (seen >= count) break;
  }
  return batches;
};

export const describeStore = (name: string, harness: StoreHarness): void => {
  describe(`${name} keeps the store's contract`, () => {
    const create = async (options?: { keepHistory?: number }) => {
      const store = await harness.create(options);
      onTestFinished(async () => store[Symbol.asyncDispose]());
      return store;
    };

    test('a key that was put is read with its value and revisions', async () => {
      const store = await create();
      const first = await store.transact([], [put('/a', 'one')]);
      const second = await store.transact([], [put('/a', 'two')]);
      const { entries, revision } = await store.read([{ key: '/a' }]);
      expect(revision).toBe(second.revision);
      expect(entries).toMatchObject([
        {
          key: '/a',
          createRevision: first.revision,
          modRevision: second.revision,
          lease: undefined,
        },
      ]);
      expect(await stored(store, '/a')).toBe('two');
    });

    test('a prefix holds exactly the keys below it, in order, at most as many as asked', async () => {
      const store = await create();
      await store.transact(
        [],
        ['/b/2', '/b/1', '/b', '/b0', '/a', '/b/', '/c'].map((key) => put(key)),
      );
      expect(await keysBelow(store, '/b/')).toEqual(['/b/', '/b/1', '/b/2']);
      const limited = await store.read([{ prefix: '/b/', limit: 2 }]);
      expect(limited.entries.map(({ key }) => key)).toEqual(['/b/', '/b/1']);
    });

    test('overlapping ranges yield a key once', async () => {
      const store = await create();
      await store.transact([], [put('/a/1')]);
      const { entries } = await store.read([{ key: '/a/1' }, { prefix: '/a/' }]);
      expect(entries).toHaveLength(1);
    });

    test('changing what was passed in or read changes nothing in the store', async () => {
      const store = await create();
      const value = bytes('safe');
      await store.transact([], [{ kind: 'put', key: '/a', value }]);
      value.fill(0);
      expect(await stored(store, '/a')).toBe('safe');
    });

    test('a transaction whose compare fails changes nothing', async () => {
      const store = await create();
      const { revision } = await store.transact([], [put('/a', 'one')]);
      const refused = await store.transact(
        [
          { kind: 'revision-is', key: '/a', revision },
          { kind: 'revision-is', key: '/b', revision: 1 },
        ],
        [put('/a', 'two'), put('/b')],
      );
      expect(refused).toEqual({ succeeded: false, revision });
      expect(await stored(store, '/a')).toBe('one');
      expect(await keysBelow(store, '/')).toEqual(['/a']);
    });

    test('revision 0 in a compare means that the key does not exist', async () => {
      const store = await create();
      const absent = { kind: 'revision-is' as const, key: '/a', revision: 0 };
      expect((await store.transact([absent], [put('/a')])).succeeded).toBe(true);
      expect((await store.transact([absent], [put('/a')])).succeeded).toBe(false);
      await store.transact([], [{ kind: 'delete', key: '/a' }]);
      expect((await store.transact([absent], [put('/a')])).succeeded).toBe(true);
    });

    test('none-newer fails once a key below the prefix was written later', async () => {
      const store = await create();
      const { revision } = await store.transact([], [put('/a/1')]);
      const compare = { kind: 'none-newer' as const, prefix: '/a/', revision };
      expect((await store.transact([compare], [put('/b/1')])).succeeded).toBe(true);
      await store.transact([], [put('/a/2')]);
      expect((await store.transact([compare], [put('/b/2')])).succeeded).toBe(false);
    });

    test('of transactions that race on one key exactly one wins', async () => {
      const store = await create();
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          store.transact([{ kind: 'revision-is', key: '/a', revision: 0 }], [put('/a', String(i))]),
        ),
      );
      expect(results.filter(({ succeeded }) => succeeded)).toHaveLength(1);
    });

    test('updates asked for at once are decided one after another, each on what those before it left', async () => {
      const store = await create();
      const seen: string[] = [];
      const revisions = await Promise.all(
        Array.from({ length: 50 }, () =>
          store.update([{ key: '/count' }], ({ entries: [entry] }) => {
            const count = entry === undefined ? 0 : Number(new TextDecoder().decode(entry.value));
            seen.push(String(count));
            const compares = [
              { kind: 'revision-is' as const, key: '/count', revision: entry?.modRevision ?? 0 },
            ];
            return { compares, operations: [put('/count', String(count + 1))] };
          }),
        ),
      );
      expect(await stored(store, '/count')).toBe('50');
      expect(new Set(seen).size).toBe(50);
      expect(new Set(revisions).size).toBe(50);
      const batches = await take(store.watch('/', 0, AbortSignal.timeout(PATIENCE_MS)), 50);
      expect(
        batches.map(({ changes: [change] }) => change && new TextDecoder().decode(change.value)),
      ).toEqual(Array.from({ length: 50 }, (_, i) => String(i + 1)));
    });

    test('an update that is refused writes nothing, and those asked for at once with it are carried out', async () => {
      const store = await create();
      const refuse = () => {
        throw new RangeError('not this one');
      };
      const results = await Promise.allSettled([
        store.update([], () => ({ compares: [], operations: [put('/a')] })),
        store.update([{ prefix: '/' }], refuse),
        store.update([], () => ({ compares: [], operations: [put('/b'), put('/b')] })),
        store.update([], () => ({ compares: [], operations: [put('/c', 'x', 'no such lease')] })),
        store.update([], () => ({ compares: [], operations: [put('/d')] })),
      ]);
      expect(results.map(({ status }) => status)).toEqual([
        'fulfilled',
        'rejected',
        'rejected',
        'rejected',
        'fulfilled',
      ]);
      expect(results[1]).toMatchObject({ reason: expect.any(RangeError) });
      expect(results[2]).toMatchObject({ reason: { code: 'invalid-argument' } });
      expect(results[3]).toMatchObject({ reason: { code: 'not-found' } });
      expect(await keysBelow(store, '/')).toEqual(['/a', '/d']);
    });

    test('an update that writes nothing makes no revision', async () => {
      const store = await create();
      const { revision } = await store.transact([], [put('/a')]);
      expect(await store.update([{ key: '/a' }], () => ({ compares: [], operations: [] }))).toBe(revision);
    });

    test('a deleted prefix takes all its keys and no other', async () => {
      const store = await create();
      await store.transact([], [put('/a/1'), put('/a/2'), put('/ab')]);
      await store.transact([], [{ kind: 'delete-prefix', prefix: '/a/' }, put('/c')]);
      expect(await keysBelow(store, '/')).toEqual(['/ab', '/c']);
    });

    test('a transaction that changes nothing makes no revision', async () => {
      const store = await create();
      const { revision } = await store.transact([], [put('/a')]);
      expect(
        await store.transact(
          [],
          [
            { kind: 'delete', key: '/none' },
            { kind: 'delete-prefix', prefix: '/none/' },
          ],
        ),
      ).toEqual({ succeeded: true, revision });
    });

    test('two operations on one key, or too many operations, are refused', async () => {
      const store = await create();
      const refused = { code: 'invalid-argument' };
      await expect(store.transact([], [put('/a'), { kind: 'delete', key: '/a' }])).rejects.toMatchObject(
        refused,
      );
      await expect(
        store.transact([], [put('/a/1'), { kind: 'delete-prefix', prefix: '/a/' }]),
      ).rejects.toMatchObject(refused);
      await expect(
        store.transact(
          [],
          Array.from({ length: 129 }, (_, i) => put(`/${i}`)),
        ),
      ).rejects.toMatchObject(refused);
      expect(await keysBelow(store, '/')).toEqual([]);
    });

    test('a watch yields what came after a revision, one batch a transaction, then what follows', async () => {
      const store = await create();
      await store.transact([], [put('/w/0')]);
      const { revision } = await store.transact([], [put('/other')]);
      await store.transact([], [put('/w/1', 'one'), put('/w/2', 'two'), put('/other')]);
      const watch = take(store.watch('/w/', revision, AbortSignal.timeout(PATIENCE_MS)), 4);
      await sleep(10);
      await store.transact([], [put('/other')]);
      await store.transact([], [{ kind: 'delete', key: '/w/1' }]);
      await store.transact([], [put('/w/3')]);
      const batches = await watch;
      expect(batches.map((batch) => batch.changes.map(({ key }) => key).sort())).toEqual([
        ['/w/1', '/w/2'],
        ['/w/1'],
        ['/w/3'],
      ]);
      expect(batches[1]?.changes[0]?.value).toBeUndefined();
      expect(batches[0]?.revision).toBe(revision + 1);
      expect(batches[2]?.revision).toBe(revision + 4);
    });

    test('watches resumed at any revision see every change exactly once', async () => {
      const store = await create();
      const { revision: start } = await store.read([]);
      const all: string[] = [];
      const writer = (async () => {
        for (let i = 0; i < 60; i++) {
          await store.transact([], [put(`/w/${i}`)]);
          if (i % 7 === 0) await sleep(1);
        }
      })();
      let after = start;
      while (all.length < 60) {
        for (const batch of await take(store.watch('/w/', after, AbortSignal.timeout(PATIENCE_MS)), 5)) {
          all.push(...batch.changes.map(({ key }) => key));
          after = batch.revision;
        }
      }
      await writer;
      expect(all).toEqual(Array.from({ length: 60 }, (_, i) => `/w/${i}`));
    });

    test('an aborted watch ends quietly', async () => {
      const store = await create();
      const controller = new AbortController();
      const watch = take(store.watch('/', 0, controller.signal), 1);
      await sleep(5);
      controller.abort();
      expect(await watch).toEqual([]);
    });

    test('a watch from history that is gone, or not yet written, says compacted', async () => {
      const store = await create({ keepHistory: 10 });
      for (let i = 0; i < 50; i++) await store.transact([], [put('/a', String(i))]);
      const { revision } = await store.read([]);
      const signal = AbortSignal.timeout(PATIENCE_MS);
      await expect(take(store.watch('/', 1, signal), 1)).rejects.toThrow(CompactedError);
      await expect(take(store.watch('/', revision + 1, signal), 1)).rejects.toThrow(CompactedError);
      expect(await take(store.watch('/', revision - 9, signal), 9)).toHaveLength(9);
    });

    test('the keys of a lease go when it ends, in one batch, and others stay', async () => {
      const store = await create();
      const lease = await store.grantLease(harness.leaseTtlMs);
      const { revision } = await store.transact([], [put('/l/1', 'x', lease), put('/l/2', 'x', lease)]);
      await store.transact([], [put('/l/3')]);
      expect((await store.read([{ key: '/l/1' }])).entries[0]?.lease).toBe(lease);
      const batches = await take(store.watch('/l/', revision + 1, AbortSignal.timeout(PATIENCE_MS)), 2);
      expect(batches.map((batch) => batch.changes.map(({ key }) => key).sort())).toEqual([['/l/1', '/l/2']]);
      expect(await keysBelow(store, '/')).toEqual(['/l/3']);
      expect(await store.keepAlive(lease)).toBe(false);
    });

    test('a lease that is kept alive does not end', async () => {
      const store = await create();
      const lease = await store.grantLease(harness.leaseTtlMs);
      await store.transact([], [put('/l', 'x', lease)]);
      for (let i = 0; i < 6; i++) {
        await sleep(harness.leaseTtlMs / 3);
        expect(await store.keepAlive(lease)).toBe(true);
      }
      expect(await keysBelow(store, '/')).toEqual(['/l']);
    });

    test('a key put again without the lease outlives it', async () => {
      const store = await create();
      const lease = await store.grantLease(harness.leaseTtlMs * 100);
      await store.transact([], [put('/l', 'x', lease), put('/m', 'x', lease)]);
      await store.transact([], [put('/l', 'y')]);
      await store.revokeLease(lease);
      expect(await keysBelow(store, '/')).toEqual(['/l']);
    });

    test('a put with an unknown lease is refused and changes nothing', async () => {
      const store = await create();
      await expect(store.transact([], [put('/other'), put('/l', 'x', '12345')])).rejects.toMatchObject({
        code: 'not-found',
      });
      expect(await keysBelow(store, '/')).toEqual([]);
    });

    test('another store has another identity', async () => {
      expect((await create()).identity).not.toBe((await create()).identity);
    });
  });
};
