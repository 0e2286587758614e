import { describe, expect, test } from 'vitest';
import { admitsWholeNode, decide, explain, type Subject } from '../../../native-free/admission/decision.ts';
import { type AdmissionRule, homeRule } from '../../../native-free/admission/rule.ts';

const subject: Subject = {
  trustDomain: 'partner.example',
  cluster: 'west',
  node: 'alpha',
  namespace: 'billing',
  serviceAccount: 'ledger',
  workload: 'ledger-0',
  labels: { app: 'ledger' },
};

const rule = (name: string, more: Partial<AdmissionRule> = {}): AdmissionRule => ({
  network: 'red',
  name,
  trustDomain: 'partner.example',
  isDryRun: false,
  createdAt: 0,
  ...more,
});

describe('admission', () => {
  test('without a rule nobody is admitted, whatever the domain', () => {
    expect(decide([], subject).rule).toBeUndefined();
  });

  test("the home rule admits all of the home domain's, and nobody else", () => {
    const home = [homeRule('red', 'home.example')];
    expect(decide(home, { ...subject, trustDomain: 'home.example' }).rule).toBe('home');
    expect(decide(home, subject).rule).toBeUndefined();
  });

  test.each<[string, Partial<AdmissionRule>]>([
    ['trust domain', { trustDomain: 'other.example' }],
    ['cluster', { cluster: 'east' }],
    ['node', { node: 'beta' }],
    ['namespace', { namespace: 'web' }],
    ['service account', { serviceAccount: 'default' }],
    ['a label', { labels: { app: 'web' } }],
    ['a label that is not there', { labels: { tier: 'gold' } }],
    ['a condition', { workload: 'workload == "web-0"' }],
    ['a condition on a label that is not there', { workload: 'labels.tier != "gold"' }],
    ['a condition that this version cannot read', { workload: 'later(version)' }],
  ])('a rule for another %s does not admit', (_, more) => {
    expect(decide([rule('one', more)], subject)).toEqual({ rule: undefined, dryRun: [] });
  });

  test('a rule that fits in all it says admits, and is named', () => {
    const fits = rule('ledger', {
      cluster: 'west',
      node: 'alpha',
      namespace: 'billing',
      serviceAccount: 'ledger',
      labels: { app: 'ledger' },
      workload: 'workload.startsWith("ledger-")',
    });
    expect(decide([rule('other', { node: 'beta' }), fits], subject).rule).toBe('ledger');
  });

  test('a rule on trial admits nobody, and is named', () => {
    const rules = [rule('trial', { isDryRun: true }), rule('other', { node: 'beta' })];
    expect(decide(rules, subject)).toEqual({ rule: undefined, dryRun: ['trial'] });
    expect(decide([...rules, rule('real')], subject)).toEqual({ rule: 'real', dryRun: ['trial'] });
  });

  test('a node is admitted whole only by a rule that looks at nothing but the node', () => {
    expect(admitsWholeNode([rule('all')], subject)).toBe('all');
    expect(admitsWholeNode([rule('node', { node: 'alpha', cluster: 'west' })], subject)).toBe('node');
    expect(admitsWholeNode([rule('other', { node: 'beta' })], subject)).toBeUndefined();
    expect(admitsWholeNode([rule('trial', { isDryRun: true })], subject)).toBeUndefined();
    for (const more of [
      { namespace: 'billing' },
      { serviceAccount: 'ledger' },
      { labels: { app: 'ledger' } },
      { workload: 'true' },
    ])
      expect(admitsWholeNode([rule('some', more)], subject)).toBeUndefined();
  });

  test('each rule says what does not fit', () => {
    const rules = [
      rule('namespace', { namespace: 'web' }),
      rule('label', { workload: 'labels.tier == "gold"' }),
      rule('all'),
    ];
    expect(explain(rules, subject).map(({ verdict }) => verdict)).toEqual([
      { kind: 'not', why: 'it is for namespace "web"' },
      { kind: 'not', why: 'there is no label "tier"' },
      { kind: 'admits' },
    ]);
  });
});
