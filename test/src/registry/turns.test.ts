import { expect, test } from 'vitest';
import { Turns } from '../../../src/registry/turns.ts';

test('no more than so many have a turn at once, and each who waits gets one in order', async () => {
  const turns = new Turns({ atOnce: 2, longestMs: 60_000 });
  const order: number[] = [];
  let now = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const giveBack = await turns.take();
      order.push(i);
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      now--;
      giveBack();
      // Twice gives nothing more back.
      giveBack();
    }),
  );
  expect(most).toBe(2);
  expect(order).toEqual(Array.from({ length: 20 }, (_, i) => i));
});

test('who keeps a turn too long loses it, and does not give it back a second time', async () => {
  const turns = new Turns({ atOnce: 1, longestMs: 20 });
  const late = await turns.take();
  const next = await turns.take();
  late();
  let isThird = false;
  const third = turns.take().then((giveBack) => {
    isThird = true;
    return giveBack;
  });
  await Promise.resolve();
  expect(isThird).toBe(false);
  next();
  (await third)();
});
