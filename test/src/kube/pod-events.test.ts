// How often problems of pods are said to the API server.

import { expect, test } from 'vitest';
import type { Pod } from '../../../native-free/kube/pod.ts';
import { Attempts } from '../../../src/kube/attempts.ts';
import { PodEvents } from '../../../src/kube/pod-events.ts';
import { Strays } from '../../../src/kube/strays.ts';

const pod = (uid: string): Pod => ({
  ...{ uid, objectUid: `o-${uid}`, namespace: 'n', name: uid, labels: {}, annotations: {} },
  ...{ isHostNetwork: false, hasEnded: false, isEnding: false },
});

const start = () => {
  const said: string[] = [];
  let now = 0;
  const events = new PodEvents({
    api: { createEvent: async ({ uid, message }) => void said.push(`${uid} ${message}`) },
    clock: { monotonic: () => now, wall: () => now },
    failed: () => {},
  });
  const warn = (uid: string, message: string) => events.warn(pod(uid), 'NetworkPending', message);
  const pass = (milliseconds: number) => {
    now += milliseconds;
  };
  return { said, warn, pass };
};

test('the same is said once, and again after ten minutes', () => {
  const { said, warn, pass } = start();
  for (let time = 0; time < 100; time++, pass(1000)) warn('a', 'x');
  expect(said).toEqual(['o-a x']);
  pass(600_000);
  warn('a', 'x');
  expect(said).toHaveLength(2);
});

test('a pod whose problem is another each time is said little of, and does not silence others', () => {
  const { said, warn, pass } = start();
  for (let time = 0; time < 600; time++, pass(1000)) warn('a', `x${time}`);
  expect(said.length).toBeLessThanOrEqual(8 + 10);
  warn('b', 'y');
  expect(said.at(-1)).toBe('o-b y');
});

test('of many at once all are said, some later', () => {
  const { said, warn, pass } = start();
  for (let round = 0; round < 60; round++, pass(1000))
    for (let one = 0; one < 110; one++) warn(`p${one}`, 'x');
  expect(said).toHaveLength(110);
});

test('work is not done twice at once, rests when it was done, and longer when it failed', async () => {
  let now = 0;
  const ran: string[] = [];
  let isFailing = false;
  let ended = Promise.withResolvers<void>();
  const attempts = new Attempts({
    now: () => now,
    ended: () => ended.resolve(),
    failed: () => void ran.push('failed'),
  });
  const run = async (): Promise<boolean> => {
    ended = Promise.withResolvers();
    const isBegun = attempts.start('k', async () => {
      ran.push('ran');
      if (isFailing) throw new Error('no');
    });
    expect(attempts.start('k', async () => void ran.push('twice'))).toBe(isBegun);
    if (isBegun) await ended.promise;
    return isBegun;
  };
  expect([await run(), await run()]).toEqual([true, false]);
  now = 500;
  isFailing = true;
  expect(await run()).toBe(true);
  expect(ran).toEqual(['ran', 'ran', 'failed']);
  const waits: number[] = [];
  for (let time = 0; time < 12; time++) {
    const from = now;
    do now += 100;
    while (!(await run()));
    waits.push(now - from);
  }
  expect(waits[0]).toBeLessThanOrEqual(1_100);
  expect(Math.min(...waits.slice(8))).toBeGreaterThanOrEqual(29_000);
  expect(Math.max(...waits)).toBeLessThanOrEqual(60_100);
});

test('a stray pod is asked for once a minute, and told of when it lasts', () => {
  const strays = new Strays();
  expect(strays.isDue('u', 0)).toBe(true);
  strays.found('u', 'n/p', 0);
  expect([strays.isDue('u', 59_999), strays.isDue('u', 60_000)]).toEqual([false, true]);
  strays.found('u', 'n/p', 60_000);
  expect([strays.lasting(29_999), strays.lasting(30_000)]).toEqual([[], ['n/p']]);
  strays.forget((uid) => uid === 'u');
  expect(strays.isDue('u', 0)).toBe(true);
});
