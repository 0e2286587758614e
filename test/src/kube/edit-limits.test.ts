// What may be begun how often, whoever edits.

import { expect, test } from 'vitest';
import type { Pod } from '../../../native-free/kube/pod.ts';
import type { Action } from '../../../native-free/kube/reconcile-pods.ts';
import { EditLimits } from '../../../src/kube/edit-limits.ts';

const attach = (uid: string): Exclude<Action, { kind: 'warn' }> => ({
  kind: 'attach',
  pod: { namespace: 'team-a', name: 'web', uid },
  network: 'red',
  netns: { path: '/x', id: 'n' },
  interfaceName: 'red',
  labels: {},
  addresses: [],
});
const show = (uid: string): Exclude<Action, { kind: 'warn' }> => {
  const pod: Pod = {
    ...{ uid, objectUid: uid, namespace: 'team-a', name: 'web', labels: {}, annotations: {} },
    ...{ isHostNetwork: false, hasEnded: false, isEnding: false },
  };
  return { kind: 'show', pod, text: '[]' };
};
const begun = (
  limits: EditLimits,
  action: Exclude<Action, { kind: 'warn' }>,
  times: number,
  now = 0,
): number => Array.from({ length: times }, () => limits.may(action, now)).filter(Boolean).length;

test('a full node that starts waits for nothing', () => {
  const limits = new EditLimits();
  for (let pod = 0; pod < 110; pod++) {
    expect(begun(limits, attach(`u${pod}`), 4)).toBe(4);
    expect(begun(limits, show(`u${pod}`), 1)).toBe(1);
  }
});

test('a pod that is edited in a loop is followed ever more seldom, and no other pod with it', () => {
  const limits = new EditLimits();
  expect(begun(limits, attach('u1'), 1000)).toBe(44);
  expect(begun(limits, show('u1'), 1000)).toBe(16);
  expect(begun(limits, attach('u2'), 32)).toBe(32);
  expect(begun(limits, show('u1'), 1000, 20_000)).toBe(4);
});

test('many pods that are edited in a loop are followed five times a second in all, and keep no other waiting', () => {
  const limits = new EditLimits();
  for (let pod = 0; pod < 110; pod++) begun(limits, attach(`u${pod}`), 64);
  const all = (now: number): number => {
    let sum = 0;
    for (let pod = 0; pod < 110; pod++) sum += begun(limits, attach(`u${pod}`), 64, now);
    return sum;
  };
  expect(all(0)).toBe(0);
  expect(all(20_000)).toBe(50);
  expect(all(21_000)).toBe(5);
  expect(begun(limits, attach('fresh'), 32, 21_000)).toBe(32);
  expect(begun(limits, show('fresh'), 4, 21_000)).toBe(4);
});

test('what takes a pod off is never held up', () => {
  const limits = new EditLimits();
  const detach = { kind: 'detach', id: 'a1', network: 'red', why: 'x' } as const;
  expect(begun(limits, detach, 5000)).toBe(5000);
});
