import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Anchor, planBundle } from '../../../native-free/kube/ca-bundle.ts';

const NOW = 1_000_000;
const anchor = (pem: string, holder: string | undefined, notAfter = NOW + 1000): Anchor => ({
  pem,
  holder,
  notAfter,
});
const plan = (seen: readonly Anchor[], mine: readonly Anchor[]) =>
  planBundle({ seen, mine, holder: 'me', now: NOW })?.map(({ pem }) => pem);

const mine = anchor('mine', 'me');
const other = anchor('other', 'you');

describe('the bundle', () => {
  test('gets what is missing, behind what is there', () => {
    expect(plan([], [mine])).toEqual(['mine']);
    expect(plan([other], [mine, anchor('next', 'me')])).toEqual(['other', 'mine', 'next']);
  });

  test('is left alone when it is as it should be, in whatever order', () => {
    expect(plan([mine, other], [mine])).toBeUndefined();
    expect(plan([other, mine], [mine])).toBeUndefined();
    expect(plan([], [])).toBeUndefined();
  });

  test('loses what this replica had and does not need, and nothing of others', () => {
    expect(plan([anchor('old', 'me'), other], [mine])).toEqual(['other', 'mine']);
    expect(plan([mine, other], [])).toEqual(['other']);
  });

  test('loses what has ended, whoever had it', () => {
    expect(plan([anchor('ended', 'gone', NOW - 1), mine], [mine])).toEqual(['mine']);
    expect(plan([anchor('ends now', 'gone', NOW), mine], [mine])).toBeUndefined();
  });

  test('keeps what somebody else put there, ended or not', () => {
    expect(plan([anchor('theirs', undefined, 0), mine], [mine])).toBeUndefined();
    expect(plan([anchor('theirs', undefined, 0)], [mine])).toEqual(['theirs', 'mine']);
  });

  test('holds nothing twice', () => {
    expect(plan([other, mine, other], [mine])).toEqual(['other', 'mine']);
  });

  test('loses of too many those that end first, never its own', () => {
    const many = Array.from({ length: 70 }, (_, i) => anchor(`p${i}`, `h${i}`, NOW + 100 + i));
    const theirs = anchor('theirs', undefined);
    const early = anchor('early', 'me', NOW + 1);
    const planned = plan([theirs, ...many], [early]) ?? [];
    expect(planned).toEqual(['theirs', ...many.slice(7).map(({ pem }) => pem), 'early']);
  });
});

test('replicas that come, renew, go and write in any order agree, and everybody who is there is trusted', () => {
  const step = fc.record({
    who: fc.integer({ min: 0, max: 5 }),
    what: fc.constantFrom('look', 'renew', 'restart', 'leave'),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let bundle: readonly Anchor[] = [];
      let made = 0;
      const replicas = new Map<number, Anchor[]>();
      const look = (who: number): void => {
        const view = { seen: bundle, mine: replicas.get(who) ?? [], holder: `r${who}`, now: NOW };
        bundle = planBundle(view) ?? bundle;
      };
      const fresh = (who: number): Anchor => anchor(`c${made++}`, `r${who}`);
      for (const { who, what } of steps) {
        const held = replicas.get(who) ?? [fresh(who)];
        if (what === 'leave') replicas.delete(who);
        else if (what === 'restart') replicas.set(who, [fresh(who)]);
        else if (what === 'renew') replicas.set(who, [...held.slice(-1), fresh(who)]);
        else replicas.set(who, held);
        look(who);
        for (const [one, anchors] of replicas)
          if (one === who) for (const each of anchors) expect(bundle).toContainEqual(each);
      }
      for (const who of replicas.keys()) look(who);
      const expected = [...replicas.values()].flat().map(({ pem }) => pem);
      expect(bundle.map(({ pem }) => pem).toSorted()).toEqual(expected.toSorted());
      const settled = bundle;
      for (const who of replicas.keys()) look(who);
      expect(bundle).toBe(settled);
    }),
  );
});
