import { expect, test, vi } from 'vitest';
import { NotAdmitted } from '../../../native-free/error.ts';
import { type Refused, Verdicts } from '../../../src/agent/verdicts.ts';

const world = (isRestricted = true, isForeign = false) => {
  const asked: number[] = [];
  const refused: Refused[] = [];
  const verdicts = new Verdicts({
    saved: { name: 'red', document: { isRestricted } },
    isForeign,
    ask: () => asked.push(1),
    problem: () => 'the registry is gone',
    onRefused: (some) => refused.push(...some),
  });
  return { verdicts, asked, refused };
};

test('where everyone is admitted nobody is asked', async () => {
  const { verdicts, asked } = world(false);
  await verdicts.mustBeAdmitted('a');
  expect(asked).toEqual([]);
});

test("on another domain's network everybody is asked, whatever that says of itself", async () => {
  const { verdicts, asked } = world(false, true);
  const waiting = verdicts.mustBeAdmitted('a');
  expect(asked).toHaveLength(1);
  verdicts.decided(['a'], []);
  await waiting;
});

test('an attachment waits for what is decided of it, and for nothing else', async () => {
  const { verdicts, asked, refused } = world();
  const [a, b] = [verdicts.mustBeAdmitted('a'), verdicts.mustBeAdmitted('b')];
  b.catch(() => {});
  expect(asked).toHaveLength(2);
  expect(verdicts.waiting('a')).toMatch(/red admits by rules.*the registry is gone/);
  verdicts.decided(['c'], []);
  verdicts.decided(['a', 'b'], [{ id: 'b', reason: 'no rule' }]);
  await a;
  await expect(b).rejects.toThrow(new NotAdmitted('no rule'));
  expect(verdicts.waiting('a')).toBe('');
  expect(refused).toEqual([]);
});

test('what is refused though it was there before is given back to be taken down', () => {
  const { verdicts, refused } = world();
  verdicts.decided(['a', 'b'], [{ id: 'a', reason: 'no rule any more' }]);
  expect(refused).toEqual([{ id: 'a', reason: 'no rule any more' }]);
});

test('while the registry does not say, it is unavailable, and not refused', async () => {
  vi.useFakeTimers();
  try {
    const { verdicts } = world();
    const asking = verdicts.mustBeAdmitted('a');
    asking.catch(() => {});
    await vi.advanceTimersByTimeAsync(6_000);
    await expect(asking).rejects.toMatchObject({ code: 'unavailable' });
  } finally {
    vi.useRealTimers();
  }
});
