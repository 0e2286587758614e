// Rules and attachments under random histories: whatever an admin and two nodes do in which order, what is stored is what the
// rules admit, what was refused is what they do not, and the log is one chain that says so.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decide, type Subject } from '../../../native-free/admission/decision.ts';
import { checkLog } from '../../../native-free/admission/exported-log.ts';
import { redecide } from '../../../native-free/registry/admission-decisions.ts';
import {
  createAdmissionRule,
  deleteAdmissionRule,
  rulesIn,
} from '../../../native-free/registry/admission-rules.ts';
import { putAttachments } from '../../../native-free/registry/announcement-rules.ts';
import { all, below, keys, one } from '../../../native-free/registry/keys.ts';
import { leaveNetwork } from '../../../native-free/registry/lease-rules.ts';
import { readLog } from '../../../src/registry/decision-log.ts';
import { Transactor } from '../../../src/registry/transactor.ts';
import { memoryStore } from './fixtures.ts';
import * as world from './rules-world.ts';

const HOME = 'test.example';
const NODES = ['n1', 'n2'];
const CHANGE = { admin: 'admin', trustDomain: HOME };

type Step =
  | { kind: 'rule'; name: string; app: string | undefined; node: string | undefined; isDryRun: boolean }
  | { kind: 'unrule'; name: string }
  | { kind: 'announce'; node: string; apps: (string | undefined)[] }
  | { kind: 'leave'; node: string };

const app = fc.constantFrom('web', 'ledger', undefined);
const ruleName = fc.constantFrom('home', 'r1', 'r2', 'r3');
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('rule' as const),
      name: ruleName,
      app,
      node: fc.constantFrom('n1', undefined),
      isDryRun: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('unrule' as const), name: ruleName }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('announce' as const),
      node: fc.constantFrom(...NODES),
      apps: fc.array(app, { maxLength: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('leave' as const), node: fc.constantFrom(...NODES) }),
  },
);

const refusable = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code !== 'internal') return undefined;
    throw error;
  }
};

const subjectOf = (node: string, labels: Readonly<Record<string, string>>): Subject => ({
  trustDomain: HOME,
  cluster: '',
  node,
  namespace: '',
  serviceAccount: '',
  workload: 'web-1',
  labels,
});

test('what is stored is what the rules admit, and the log is a chain that says how it came to that', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { maxLength: 30 }), async (history) => {
      const store = memoryStore();
      const transactor = new Transactor(store);
      await world.within(store, transactor, async () => {
        await world.red();
        await world.enrolled(...NODES);
        for (const node of NODES) await world.join(node);
      });
      const run = async <T>(rule: Parameters<typeof transactor.run<T>>[0]) =>
        (await transactor.run(rule)).answer;
      let now = world.NOW;
      for (const step of history) {
        now += 1000;
        if (step.kind === 'rule') {
          const selects = {
            ...(step.app !== undefined && { labels: { app: step.app } }),
            ...(step.node !== undefined && { node: step.node }),
          };
          const wanted = {
            network: 'red',
            name: step.name,
            trustDomain: HOME,
            isDryRun: step.isDryRun,
            createdAt: 0,
            ...selects,
          };
          await refusable(() => run(createAdmissionRule(wanted, { ...CHANGE, now })));
        } else if (step.kind === 'unrule') {
          await refusable(() => run(deleteAdmissionRule('red', step.name, { ...CHANGE, now })));
        } else if (step.kind === 'leave') {
          await run(leaveNetwork('red', step.node, now));
          await world.within(store, transactor, () => world.join(step.node));
        } else {
          const prefix = step.node === 'n1' ? '10.60.0' : '10.60.1';
          const held = (await transactor.read([all(below.leases('red'))]))
            .leases('red')
            .some(
              ({ value }) =>
                value.node === step.node && value.prefix === `${prefix}.0/24` && value.freedAt === undefined,
            );
          if (!held) continue;
          const wanted = step.apps.map((label, i) => ({
            ...world.attachment(`a${i}`, `${prefix}.${i + 9}`),
            labels: label === undefined ? {} : { app: label },
          }));
          const { refused, remaining } = await run(putAttachments('red', step.node, wanted, now, HOME));
          expect(remaining).toBe(0);
          const state = await transactor.read([one(keys.ruleset('red')), all(below.admissionRules('red'))]);
          const rules = rulesIn(state, 'red', HOME);
          expect(refused.map(({ id }) => id)).toEqual(
            wanted
              .filter(({ labels }) => decide(rules, subjectOf(step.node, labels)).rule === undefined)
              .map(({ id }) => id),
          );
        }
        for (const node of NODES) expect((await run(redecide('red', node, HOME, now))).remaining).toBe(0);
        await mustBeAsTheRulesSay(transactor);
      }
      const { lines } = await readLog(store);
      const { problems, entries } = checkLog(lines, undefined, () => undefined, now);
      expect(problems).toEqual(['its head is not signed by the domain']);
      expect(entries).toHaveLength(lines.length);
    }),
    { numRuns: 60 },
  );
});

const mustBeAsTheRulesSay = async (transactor: Transactor): Promise<void> => {
  const state = await transactor.read([
    one(keys.ruleset('red')),
    all(below.admissionRules('red')),
    all(below.attachments('red')),
    ...NODES.map((node) => all(below.decisions('red', node))),
  ]);
  if (state.ruleset('red') === undefined) return;
  const rules = rulesIn(state, 'red', HOME);
  for (const { value } of state.attachmentsBelow(below.attachments('red'))) {
    const { rule } = decide(rules, subjectOf(value.node, value.labels));
    expect(rule).toBeDefined();
    const held = state
      .decisions('red', value.node)
      .find(({ key }) => key === keys.decision('red', value.node, value.id));
    expect(held?.value.rule).toBe(rule);
  }
};
