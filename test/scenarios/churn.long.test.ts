// L4: attach and detach 1000 times, and all pods to zero and back.

import { expect, test } from 'vitest';
import { churn, describeChurn } from './churn.ts';

const TIMES = 1000;

test(`attaching and detaching ${TIMES} times leaves nothing over`, async () => {
  const result = await churn(TIMES);
  console.log(describeChurn(TIMES, result));
  const { before, after } = result;
  // Sockets of the registry's connection come and go.
  expect(after.descriptors).toBeLessThanOrEqual(before.descriptors + 2);
  expect(after.threads).toBe(before.threads);
  expect(after.heapMb).toBeLessThan(before.heapMb + 4);
  expect(after.externalMb).toBeLessThan(before.externalMb + 4);
}, 2_400_000);
