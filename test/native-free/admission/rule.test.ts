// What a rule may hold.

import { describe, expect, test } from 'vitest';
import { admissionRule } from '../../../native-free/admission/rule.ts';

const admittedBy = (labels: string) =>
  admissionRule.safeParse({
    network: 'red',
    name: 'ledger',
    trustDomain: 'home.example',
    labels: JSON.parse(labels),
    isDryRun: false,
    createdAt: 0,
  });

describe('a rule', () => {
  test('never loses the label that it is about: what no workload can have is refused', () => {
    for (const labels of ['{"__proto__":"x"}', '{"app":"ledger","__proto__":"x"}', '{"":"x"}', '{"a b":"x"}'])
      expect(admittedBy(labels).success).toBe(false);
    expect(admittedBy('{"constructor":"x","toString":"y"}').data?.labels).toEqual({
      constructor: 'x',
      toString: 'y',
    });
  });
});
