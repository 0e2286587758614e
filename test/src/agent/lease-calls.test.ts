import { expect, test } from 'vitest';
import { LeaseCalls } from '../../../src/agent/lease-calls.ts';

/** Work that begins and ends when it is told to, and notes both. */
const work = (name: string, log: string[]) => {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const run = async (): Promise<string> => {
    log.push(`${name} begins`);
    await promise;
    log.push(`${name} ends`);
    return name;
  };
  return { run, end: resolve, fail: reject };
};

/** Lets everything happen that can. */
const turns = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

test('calls about leases run side by side, and a renewal waits for all of them', async () => {
  const log: string[] = [];
  const calls = new LeaseCalls();
  const [a, b, renewal] = ['a', 'b', 'renewal'].map((name) => work(name, log));
  if (a === undefined || b === undefined || renewal === undefined) throw new Error('three were made');
  const all = [calls.run(a.run), calls.run(b.run), calls.renew(renewal.run)];
  await turns();
  expect(log).toEqual(['a begins', 'b begins']);
  a.end();
  await turns();
  expect(log).not.toContain('renewal begins');
  b.fail(new Error('no answer'));
  renewal.end();
  expect((await Promise.allSettled(all)).map(({ status }) => status)).toEqual([
    'fulfilled',
    'rejected',
    'fulfilled',
  ]);
  expect(log.slice(-2)).toEqual(['renewal begins', 'renewal ends']);
});

test('what comes during a renewal waits for it, also when it fails, and renewals never meet', async () => {
  const log: string[] = [];
  const calls = new LeaseCalls();
  const first = work('first', log);
  const second = work('second', log);
  const call = work('call', log);
  const all = [calls.renew(first.run), calls.renew(second.run), calls.run(call.run)];
  await turns();
  expect(log).toEqual(['first begins']);
  first.fail(new Error('no answer'));
  second.end();
  call.end();
  await Promise.allSettled(all);
  expect(log.filter((line) => line.endsWith('begins'))).toHaveLength(3);
  // The two that waited did not overlap either.
  const at = (line: string): number => log.indexOf(line);
  expect(at('second ends') < at('call begins') || at('call ends') < at('second begins')).toBe(true);
});
