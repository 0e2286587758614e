import { expect, test } from 'vitest';
import { Admission } from '../../../src/registry/admission.ts';

const options = { atOnce: 2, most: 100, longestWaitMs: 60_000 };
const never = new AbortController().signal;
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Calls that end when they are told to, in the order in which they began. */
class Calls {
  readonly begun: string[] = [];
  readonly #ends: (() => void)[] = [];

  call(name: string): () => Promise<string> {
    return () => {
      this.begun.push(name);
      return new Promise((resolve) => this.#ends.push(() => resolve(name)));
    };
  }

  async endOne(): Promise<void> {
    this.#ends.shift()?.();
    await settled();
  }
}

test('so many are worked on at once, the others in the order they came', async () => {
  const admission = new Admission(options);
  const calls = new Calls();
  const answers = ['a', 'b', 'c', 'd'].map((name) => admission.admit(never, calls.call(name)));
  await settled();
  expect(calls.begun).toEqual(['a', 'b']);
  expect(admission.waiting).toBe(2);
  await calls.endOne();
  expect(calls.begun).toEqual(['a', 'b', 'c']);
  for (let i = 0; i < 3; i++) await calls.endOne();
  expect(await Promise.all(answers)).toEqual(['a', 'b', 'c', 'd']);
  expect(admission.waiting).toBe(0);
});

test('a call whose client has gone is passed over and costs no place', async () => {
  const admission = new Admission({ ...options, atOnce: 1 });
  const calls = new Calls();
  const gone = new AbortController();
  void admission.admit(never, calls.call('first'));
  const refused = expect(admission.admit(gone.signal, calls.call('gone'))).rejects.toThrow(/busy/);
  const last = admission.admit(never, calls.call('last'));
  gone.abort();
  await calls.endOne();
  await refused;
  expect(calls.begun).toEqual(['first', 'last']);
  await calls.endOne();
  expect(await last).toBe('last');
});

test('a call that fails gives its place to the next', async () => {
  const admission = new Admission({ ...options, atOnce: 1 });
  const fails = admission.admit(never, () => Promise.reject(new Error('no')));
  const next = admission.admit(never, async () => 'next');
  await expect(fails).rejects.toThrow('no');
  expect(await next).toBe('next');
});

test('a call that waits too long, or finds the line full, is refused as unavailable', async () => {
  const admission = new Admission({ atOnce: 1, most: 1, longestWaitMs: 5 });
  const calls = new Calls();
  void admission.admit(never, calls.call('first'));
  const waits = admission.admit(never, calls.call('waits'));
  await expect(admission.admit(never, calls.call('too many'))).rejects.toMatchObject({ code: 'unavailable' });
  await expect(waits).rejects.toMatchObject({ code: 'unavailable' });
  expect(calls.begun).toEqual(['first']);
  await calls.endOne();
  // The place is free again.
  void admission.admit(never, calls.call('later'));
  expect(calls.begun).toEqual(['first', 'later']);
});
