// What is seen of an API server that lists, watches, forgets, fails and goes away, by a script.

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import type { Page } from '../../../src/kube/kubernetes-api.ts';
import { Reflector } from '../../../src/kube/reflector.ts';

/** How long something may take that happens at once, on a machine that is busy. */
const SOON = { timeout: 30_000 };

interface Thing {
  name: string;
  metadata: { resourceVersion: string };
}
const thing = (name: string, version = '1'): Thing => ({ name, metadata: { resourceVersion: version } });
const page = (resourceVersion: string, names: readonly string[], more = ''): Page => ({
  items: names.map((name) => thing(name)),
  resourceVersion,
  more,
});
const away = () => new Vl3Error('unavailable', 'the API server cannot be asked to list pods: refused');

type Send = (type: string, object: unknown) => boolean;
/** Plays the answers one after the other; the last watch stays open. */
class Script {
  readonly asked: string[] = [];
  readonly #lists: (() => Page)[];
  readonly #watches: ((send: Send) => void)[];

  constructor(lists: (() => Page)[], watches: ((send: Send) => void)[]) {
    this.#lists = lists;
    this.#watches = watches;
  }

  async list(_: string, more: string): Promise<Page> {
    this.asked.push(`list${more === '' ? '' : ` ${more}`}`);
    const next = this.#lists.shift();
    if (next === undefined) throw new Error('another list');
    return next();
  }

  async watch(_: string, version: string, send: Send): Promise<void> {
    this.asked.push(`watch ${version}`);
    const next = this.#watches.shift();
    if (next === undefined) return await new Promise(() => {});
    next(send);
  }
}

const stop = new AbortController();
const failures: string[] = [];
let changes = 0;
const reflect = (script: Script, backoff = { firstMs: 1, capMs: 5 }): Reflector<Thing> => {
  const reflector = new Reflector<Thing>(
    {
      resource: 'pods',
      read: (object) => ((object as Thing).name === 'malformed' ? undefined : (object as Thing)),
      keyOf: ({ name }) => name,
    },
    {
      api: script,
      changed: () => void changes++,
      failed: (error) => void failures.push(String(error)),
      clock: { monotonic: () => performance.now() },
      backoff,
    },
  );
  void reflector.run(stop.signal);
  return reflector;
};
const names = (reflector: Reflector<Thing>): string[] => [...reflector.items.keys()].sort();
const asked = (script: Script, last: string) =>
  vi.waitFor(() => expect(script.asked.at(-1)).toBe(last), SOON);

beforeEach(() => {
  failures.length = 0;
  changes = 0;
});
afterEach(() => vi.restoreAllMocks());

test('all pages are one list, and the watch begins where it ended', async () => {
  const script = new Script(
    [() => page('7', ['a', 'b'], 'p2'), () => page('7', ['c', 'malformed'])],
    [
      (send) => {
        send('ADDED', thing('d', '8'));
        send('DELETED', thing('a', '9'));
        send('BOOKMARK', thing('', '20'));
      },
    ],
  );
  const reflector = reflect(script);
  expect(reflector.problem).toMatch(/not been listed/);
  await asked(script, 'watch 20');
  expect(script.asked).toEqual(['list', 'list p2', 'watch 7', 'watch 20']);
  expect(names(reflector)).toEqual(['b', 'c', 'd']);
  expect(reflector).toMatchObject({ wasListed: true, problem: '' });
  expect(changes).toBe(3);
});

test('what was seen too long ago is listed anew, and what is not in the new list is gone', async () => {
  const gone = () => {
    throw new Vl3Error('aborted', '410');
  };
  const script = new Script(
    [() => page('7', ['a', 'b']), () => page('9', ['b', 'c']), gone, () => page('11', ['c'])],
    [
      (send) => {
        expect(send('ERROR', { code: 410 })).toBe(false);
      },
      gone,
    ],
  );
  const reflector = reflect(script);
  await asked(script, 'watch 11');
  expect(script.asked).toEqual(['list', 'watch 7', 'list', 'watch 9', 'list', 'list', 'watch 11']);
  expect(names(reflector)).toEqual(['c']);
  expect(failures).toEqual([]);
});

test('while the server is away everything stays, and it is said', async () => {
  let isAway = true;
  const script = new Script(
    [
      () => page('7', ['a']),
      ...Array.from({ length: 3 }, () => () => {
        throw away();
      }),
    ],
    [
      () => {
        throw away();
      },
    ],
  );
  const list = script.list.bind(script);
  vi.spyOn(script, 'list').mockImplementation(async (resource, more) => {
    if (script.asked.length < 5) return await list(resource, more);
    if (isAway) throw away();
    return page('9', []);
  });
  const reflector = reflect(script);
  await vi.waitFor(() => expect(failures.length).toBeGreaterThan(6), SOON);
  expect(names(reflector)).toEqual(['a']);
  expect(reflector).toMatchObject({ wasListed: true, problem: expect.stringMatching(/refused/) });
  isAway = false;
  await asked(script, 'watch 9');
  expect(names(reflector)).toEqual([]);
  expect(reflector.problem).toBe('');
});

test('a list that breaks off in the middle changes nothing', async () => {
  const between: string[][] = [];
  const fail = (): never => {
    between.push(names(reflector));
    throw away();
  };
  const lists = [() => page('7', ['a']), () => page('9', ['b'], 'p2'), fail, () => page('9', ['b'])];
  const script = new Script(lists, [fail]);
  const reflector = reflect(script);
  await asked(script, 'watch 9');
  expect(between).toEqual([['a'], ['a']]);
  expect(names(reflector)).toEqual(['b']);
});

test('what was amended counts until something newer is seen', async () => {
  const script = new Script([() => page('7', ['a'])], []);
  const reflector = reflect(script);
  await asked(script, 'watch 7');
  const [seen = thing('')] = reflector.items.values();
  const amended = { ...seen, metadata: { resourceVersion: 'own' } };
  reflector.amend(seen, amended);
  reflector.amend(seen, thing('a', 'late'));
  expect([...reflector.items.values()]).toEqual([amended]);
});

test('a server that forgets again and again, and says something new in between, is asked ever more seldom', async () => {
  const storm = (send: Send): void => {
    send('ADDED', thing('a', '8'));
    send('ERROR', { code: 410 });
  };
  const lists = Array.from({ length: 9 }, () => () => page('7', ['b']));
  const script = new Script(lists, Array<typeof storm>(8).fill(storm));
  const began = performance.now();
  const reflector = reflect(script, { firstMs: 10, capMs: 1_000 });
  await vi.waitFor(() => expect(script.asked.filter((one) => one === 'list')).toHaveLength(9), {
    timeout: 20_000,
    interval: 5,
  });
  expect(performance.now() - began).toBeGreaterThan(500);
  expect(names(reflector)).toEqual(['b']);
});
