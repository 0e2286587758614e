// L4: attach and detach 30 times, and all pods to zero and back.

import { expect, test } from 'vitest';
import { churn, describeChurn } from './churn.ts';

const TIMES = 30;

test(`attaching and detaching ${TIMES} times leaves nothing over`, async () => {
  const result = await churn(TIMES);
  console.log(describeChurn(TIMES, result));
  const { before, after } = result;
  // Sockets of the registry's connection come and go; one a time that stays would be 30.
  expect(after.descriptors).toBeLessThan(before.descriptors + TIMES / 2);
  expect(after.threads).toBe(before.threads);
  expect(after.heapMb).toBeLessThan(before.heapMb + 4);
  expect(after.externalMb).toBeLessThan(before.externalMb + 4);
}, 300_000);
