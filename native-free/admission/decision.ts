// Who is admitted to a network, and by which rule: a function of the rules and of what is known of the workload. It is
// asked when a workload attaches, whenever rules or labels change, and by whoever wants to know what would be.

import { type ExpressionInput, Unknown } from './evaluation.ts';
import { compileExpression, type Expression } from './expression.ts';
import { type AdmissionRule, looksAtNodeOnly } from './rule.ts';

/** Who asks: proven by its certificate and its enrolment. */
export interface NodeSubject {
  readonly trustDomain: string;
  /** Empty: none, it enrolled by a join token. */
  readonly cluster: string;
  readonly node: string;
}

/** For whom: as the node says. Empty: it says nothing of it. */
export interface WorkloadSubject {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly workload: string;
  readonly labels: Readonly<Record<string, string>>;
}

export type Subject = NodeSubject & WorkloadSubject;

export interface Decision {
  /** The rule that admits; undefined: none does. */
  readonly rule: string | undefined;
  /** Rules on trial that would have admitted it. */
  readonly dryRun: readonly string[];
}

/** What one rule says of a workload. */
export type Verdict =
  | { readonly kind: 'admits' }
  /** The first thing that does not fit. */
  | { readonly kind: 'not'; readonly why: string };

const ADMITS: Verdict = { kind: 'admits' };

export const decide = (rules: readonly AdmissionRule[], subject: Subject): Decision => {
  const input = inputOf(subject);
  let admitting: string | undefined;
  const dryRun: string[] = [];
  for (const rule of rules) {
    // One is enough.
    if (!rule.isDryRun && admitting !== undefined) continue;
    if (judge(rule, subject, input).kind === 'not') continue;
    if (rule.isDryRun) dryRun.push(rule.name);
    else admitting = rule.name;
  }
  return { rule: admitting, dryRun };
};

/** The rule by which everything of the node is admitted, whatever it is; undefined: it goes by the workload. */
export const admitsWholeNode = (rules: readonly AdmissionRule[], node: NodeSubject): string | undefined =>
  rules.find((rule) => !rule.isDryRun && looksAtNodeOnly(rule) && misfitOfNode(rule, node) === undefined)
    ?.name;

/** Whether some rule could admit something of the node: only its workloads are still to be looked at. */
export const nodeMayBeAdmitted = (rules: readonly AdmissionRule[], node: NodeSubject): boolean =>
  rules.some((rule) => !rule.isDryRun && misfitOfNode(rule, node) === undefined);

/** What each rule says, for people. */
export const explain = (
  rules: readonly AdmissionRule[],
  subject: Subject,
): { readonly rule: AdmissionRule; readonly verdict: Verdict }[] => {
  const input = inputOf(subject);
  return rules.map((rule) => ({ rule, verdict: judge(rule, subject, input) }));
};

const inputOf = (subject: Subject): ExpressionInput => ({
  ...subject,
  labels: new Map(Object.entries(subject.labels)),
});

const judge = (rule: AdmissionRule, subject: Subject, input: ExpressionInput): Verdict => {
  const misfit = misfitOfNode(rule, subject) ?? misfitOfWorkload(rule, input);
  if (misfit !== undefined) return { kind: 'not', why: misfit };
  if (rule.workload === undefined) return ADMITS;
  const value = expressionOf(rule, rule.workload).evaluate(input);
  if (value === true) return ADMITS;
  return { kind: 'not', why: value instanceof Unknown ? value.why : 'its condition does not hold' };
};

const misfitOfNode = (
  rule: AdmissionRule,
  { trustDomain, cluster, node }: NodeSubject,
): string | undefined => {
  if (rule.trustDomain !== trustDomain) return `it is for nodes of ${rule.trustDomain}`;
  if (rule.cluster !== undefined && rule.cluster !== cluster) return `it is for cluster "${rule.cluster}"`;
  if (rule.node !== undefined && rule.node !== node) return `it is for node "${rule.node}"`;
  return undefined;
};

const misfitOfWorkload = (
  { namespace, serviceAccount, labels }: AdmissionRule,
  input: ExpressionInput,
): string | undefined => {
  if (namespace !== undefined && namespace !== input.namespace) return `it is for namespace "${namespace}"`;
  if (serviceAccount !== undefined && serviceAccount !== input.serviceAccount)
    return `it is for service account "${serviceAccount}"`;
  if (labels === undefined) return undefined;
  for (const [key, value] of Object.entries(labels))
    if (input.labels.get(key) !== value) return `it is for label ${key}=${value}`;
  return undefined;
};

/** Stored rules are never changed in place, so each is compiled once. */
const compiled = new WeakMap<AdmissionRule, Expression>();

const expressionOf = (rule: AdmissionRule, text: string): Expression => {
  let expression = compiled.get(rule);
  if (expression === undefined) {
    expression = tolerant(text);
    compiled.set(rule, expression);
  }
  return expression;
};

/** One that this version cannot read any more admits nobody, and keeps no other rule from doing so. */
const tolerant = (text: string): Expression => {
  try {
    return compileExpression(text);
  } catch (error) {
    const unknown = new Unknown(error instanceof Error ? error.message : String(error));
    return { cost: 0, evaluate: () => unknown };
  }
};
