// The paths of a device, in the terms of its data plane.

import { expect, test } from 'vitest';
import { type PathAction, PathMtus } from '../../../native-free/device/path-mtus.ts';

const MTU = 1420;
const V4 = '192.0.2.1';
const V6 = '2001:db8::1';

const probesOf = (actions: readonly PathAction[]) => actions.filter((action) => action.kind === 'send-probe');
const limitsOf = (actions: readonly PathAction[]) => actions.filter((action) => action.kind === 'set-limit');

/** Runs for a while; plaintexts up to `carries` bytes are answered at once. Returns what was done. */
const run = (paths: PathMtus, carries: number, from: number, until: number): PathAction[] => {
  const done: PathAction[] = [];
  for (let now = from; now < until; now += 100) {
    const actions = paths.tick(now, () => now);
    done.push(...actions);
    for (const { peer, sequence, length } of probesOf(actions))
      if (length <= carries) done.push(...paths.event({ kind: 'probe-answered', peer, sequence }, now));
  }
  return done;
};

const begin = (address: string): PathMtus => {
  const paths = new PathMtus(MTU);
  paths.setAddress('b', address, 0);
  paths.sessionBegun('b', 0);
  return paths;
};

test.each([
  [V4, 1280 - 60, 1480],
  [V6, 1280 - 80, 1500],
])('to %s the first probes have the least and the greatest plaintext', (address, least, whole) => {
  const paths = begin(address);
  expect(probesOf(run(paths, MTU, 0, 1_000)).map(({ length }) => length)).toEqual([least, MTU]);
  expect(paths.of('b')).toEqual({ size: whole, isProven: true });
});

test('a limit is told once, as a multiple of 16, and lifted when the way is another one', () => {
  const paths = begin(V6);
  expect(limitsOf(run(paths, 1320, 0, 20_000))).toEqual([{ kind: 'set-limit', peer: 'b', length: 1312 }]);
  expect(paths.setAddress('b', V6, 20_000)).toEqual([]);
  const moved = paths.setAddress('b', V4, 20_000);
  expect(moved).toEqual([{ kind: 'set-limit', peer: 'b', length: undefined }]);
});

test('a limit goes with its peer', () => {
  const paths = begin(V6);
  run(paths, 1320, 0, 20_000);
  const gone = paths.setAddress('b', undefined, 20_000);
  expect(gone).toEqual([{ kind: 'set-limit', peer: 'b', length: undefined }]);
  expect(paths.of('b')).toBeUndefined();
  expect(run(paths, MTU, 20_000, 30_000)).toEqual([]);
});

test('nothing is sent before there is a session', () => {
  const paths = new PathMtus(MTU);
  paths.setAddress('b', V4, 0);
  expect(run(paths, MTU, 0, 100_000)).toEqual([]);
});

test('a probe is answered, so many a second', () => {
  const paths = begin(V4);
  const answered = (now: number): number =>
    Array.from({ length: 1000 }, (_, sequence) => paths.event({ kind: 'probe', peer: 'b', sequence }, now))
      .flat()
      .filter(({ kind }) => kind === 'answer-probe').length;
  expect(paths.event({ kind: 'probe', peer: 'b', sequence: 7 }, 5_000)).toEqual([
    { kind: 'answer-probe', peer: 'b', sequence: 7 },
  ]);
  expect(answered(5_000)).toBe(99);
  expect(answered(5_500)).toBe(0);
  expect(answered(6_000)).toBe(100);
});

test('events about peers that are not known are nothing', () => {
  const paths = begin(V4);
  expect(paths.event({ kind: 'probe', peer: 'x', sequence: 1 }, 0)).toEqual([]);
  expect(paths.event({ kind: 'probe-answered', peer: 'x', sequence: 1 }, 0)).toEqual([]);
  expect(paths.event({ kind: 'too-big', peer: 'x', size: 1300 }, 0)).toEqual([]);
});

test('another MTU inside has all paths found anew', () => {
  const paths = begin(V6);
  run(paths, 1320, 0, 20_000);
  expect(paths.setInnerMtu(1300, 20_000)).toEqual([{ kind: 'set-limit', peer: 'b', length: undefined }]);
  run(paths, 1320, 20_000, 30_000);
  expect(paths.of('b')).toEqual({ size: 1380, isProven: true });
});

test('of thousands of peers only some are probed at a time, and all soon', () => {
  const paths = new PathMtus(MTU);
  for (let i = 0; i < 3000; i++) {
    paths.setAddress(`${i}`, V4, 0);
    paths.sessionBegun(`${i}`, 0);
  }
  const seen = new Set<string>();
  for (let now = 0; now < 5_000; now += 100) {
    const probes = probesOf(paths.tick(now, () => now + 1));
    expect(probes.length).toBeLessThanOrEqual(260);
    for (const { peer, sequence } of probes) {
      seen.add(peer);
      paths.event({ kind: 'probe-answered', peer, sequence }, now);
    }
  }
  expect(seen.size).toBe(3000);
});

test('who is due at every tick keeps nobody else from being probed', () => {
  const paths = new PathMtus(MTU);
  for (let i = 0; i < 1000; i++) {
    paths.setAddress(`${i}`, V4, 0);
    paths.sessionBegun(`${i}`, 0);
  }
  const seen = new Set<string>();
  for (let n = 0; n < 20; n++) {
    const now = n * 5_000;
    for (const { peer, sequence } of probesOf(paths.tick(now, () => now + 1))) {
      seen.add(peer);
      paths.event({ kind: 'probe-answered', peer, sequence }, now);
    }
  }
  expect(seen.size).toBe(1000);
});
