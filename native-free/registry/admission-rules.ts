// How admission rules come and go. A network that nobody touched has one rule, "home": everyone of the home domain. It is
// deleted and made again as any other; without it the network is restricted, and each workload needs a rule.

import { compileExpression } from '../admission/expression.ts';
import {
  type AdmissionRule,
  admissionRule,
  HOME_RULE,
  homeRule,
  looksAtNodeOnly,
  MAX_RULES,
} from '../admission/rule.ts';
import { Vl3Error } from '../error.ts';
import { LogWriter, NO_LOG } from './admission-log.ts';
import { type Ruleset, ruleset } from './admission-model.ts';
import { all, below, keys, one } from './keys.ts';
import { check, name as nameSchema } from './model.ts';
import { mustBeNetwork, put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import type { Operation } from './transaction.ts';

/** Who changes a rule, and when. */
export interface RuleChange {
  readonly admin: string;
  readonly now: number;
  /** The home domain. */
  readonly trustDomain: string;
}

const reads = (network: string) => [
  one(keys.network(network)),
  one(keys.ruleset(network)),
  one(keys.logHead),
  all(below.admissionRules(network)),
];

/** All that hold, "home" first. Reads the ruleset and the rules. */
export const rulesIn = (state: State, network: string, trustDomain: string): AdmissionRule[] => {
  const stored = state.admissionRules(network).map(({ value }) => value);
  return state.ruleset(network)?.value.isOpen === false
    ? stored
    : [homeRule(network, trustDomain), ...stored];
};

/** Made again as it is, it answers the same; another one of that name is 'already-exists'. */
export const createAdmissionRule = (
  wanted: AdmissionRule,
  { admin, now, trustDomain }: RuleChange,
): Rule<AdmissionRule> => {
  const made = check(admissionRule, { ...wanted, createdAt: now }, 'rule');
  const { network, name } = made;
  if (made.workload !== undefined) compileExpression(made.workload);
  if (name === HOME_RULE) mustBeHomeRule(made, trustDomain);
  if (made.cluster !== undefined && made.trustDomain !== trustDomain)
    throw new Vl3Error(
      'invalid-argument',
      `cluster: in which cluster a node of ${made.trustDomain} is, nobody here can know: select it by --node, or by what its domain says of the workload`,
    );
  return {
    reads: reads(network),
    decide: (state) => {
      mustBeNetwork(state, network);
      const rules = rulesIn(state, network, trustDomain);
      const present = rules.find((rule) => rule.name === name);
      if (present !== undefined) {
        if (sameRule(present, made)) return settled(present);
        throw new Vl3Error(
          'already-exists',
          `rule "${name}" of network "${network}" exists and says something else: see \`vl3 admission show ${name} --network ${network}\`, delete it, or take another name`,
        );
      }
      if (rules.length >= MAX_RULES)
        throw new Vl3Error(
          'resource-exhausted',
          `network "${network}" has ${MAX_RULES} rules, which is the most`,
        );
      const isHome = name === HOME_RULE;
      return {
        compares: [
          state.unchanged(keys.network(network)),
          state.unchanged(keys.ruleset(network)),
          state.unchanged(keys.logHead),
        ],
        operations: [
          ...(isHome ? [] : [put(keys.admissionRule(network, name), admissionRule, made)]),
          ...changed(state, made, { kind: 'rule-created', isOpen: isHome || undefined }, { admin, now }),
        ],
        answer: made,
      };
    },
  };
};

/** What it admitted and no other rule does is detached from then on. */
export const deleteAdmissionRule = (
  network: string,
  name: string,
  { admin, now, trustDomain }: RuleChange,
): Rule<AdmissionRule> => {
  check(nameSchema, network, 'network');
  check(nameSchema, name, 'name');
  return {
    reads: reads(network),
    decide: (state) => {
      mustBeNetwork(state, network);
      const present = rulesIn(state, network, trustDomain).find((rule) => rule.name === name);
      if (present === undefined)
        throw new Vl3Error(
          'not-found',
          `network "${network}" has no rule "${name}": see \`vl3 admission list --network ${network}\``,
        );
      const isHome = name === HOME_RULE;
      return {
        compares: [state.unchanged(keys.ruleset(network)), state.unchanged(keys.logHead)],
        operations: [
          ...(isHome ? [] : [{ kind: 'delete', key: keys.admissionRule(network, name) } as const]),
          ...changed(
            state,
            present,
            { kind: 'rule-deleted', isOpen: isHome ? false : undefined },
            { admin, now },
          ),
        ],
        answer: present,
      };
    },
  };
};

/** The ruleset's next version, and the line in the log. `isOpen` undefined: as it was. */
const changed = (
  state: State,
  rule: AdmissionRule,
  { kind, isOpen }: { readonly kind: 'rule-created' | 'rule-deleted'; readonly isOpen: boolean | undefined },
  { admin, now }: Pick<RuleChange, 'admin' | 'now'>,
): Operation[] => {
  const { network, name } = rule;
  const before = state.ruleset(network)?.value;
  const isOpenAfter = isOpen ?? before?.isOpen ?? true;
  const after: Ruleset = {
    network,
    version: (before?.version ?? 0) + 1,
    isOpen: isOpenAfter,
    ...(!isOpenAfter && before?.isInForce === true && { isInForce: true }),
    changedAt: now,
  };
  const log = new LogWriter(state.logHead()?.value ?? NO_LOG, now);
  log.add({ kind, network, rule: name, admin, definition: JSON.stringify(rule).slice(0, 8192) });
  return [put(keys.ruleset(network), ruleset, after), ...log.operations];
};

/**
 * Every node of the restricted network has its grant: from now on its peers go by that, and not before, or all would lose
 * each other until the first were signed.
 */
export const putInForce = (network: string, version: number): Rule<void> => ({
  reads: [one(keys.ruleset(network))],
  decide: (state) => {
    const present = state.ruleset(network)?.value;
    if (present === undefined || present.version !== version || present.isOpen || present.isInForce === true)
      return settled(undefined);
    return {
      compares: [state.unchanged(keys.ruleset(network))],
      operations: [put(keys.ruleset(network), ruleset, { ...present, isInForce: true })],
      answer: undefined,
    };
  },
});

const mustBeHomeRule = (rule: AdmissionRule, trustDomain: string): void => {
  const { cluster, node, isDryRun } = rule;
  const isPlain = looksAtNodeOnly(rule) && cluster === undefined && node === undefined && !isDryRun;
  if (isPlain && rule.trustDomain === trustDomain) return;
  throw new Vl3Error(
    'invalid-argument',
    `name: "${HOME_RULE}" is the rule that admits everyone of the home domain, and says nothing else: take another name`,
  );
};

const sameRule = (a: AdmissionRule, b: AdmissionRule): boolean => textOf(a) === textOf(b);

const textOf = ({ labels = {}, createdAt: _, ...rule }: AdmissionRule): string =>
  JSON.stringify([
    Object.entries(rule).sort(([a], [b]) => (a < b ? -1 : 1)),
    Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)),
  ]);
