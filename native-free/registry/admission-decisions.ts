// Decides on attachments inside the transaction that stores them, and again when rules change: what no rule admits is not
// stored, and is answered with its reason. What was decided is kept, so that the log has one line for each change of it.

import { decide, type NodeSubject, type Subject } from '../admission/decision.ts';
import type { AdmissionRule } from '../admission/rule.ts';
import { hashOf, LogWriter, logOf, logReads } from './admission-log.ts';
import { type HeldDecision, heldDecision, type LogEntry } from './admission-model.ts';
import { rulesIn } from './admission-rules.ts';
import { foreignDomainOf, nodeNameOf } from './foreign-key.ts';
import { all, below, identityKey, keys, one } from './keys.ts';
import type { Attachment } from './model.ts';
import { mustIssue, recoveryOf } from './recovery-rules.ts';
import { counting } from './refusal-rules.ts';
import { mustBeNetwork, put, type Rule, settled } from './rules.ts';
import type { State } from './state.ts';
import { type Compare, MAX_OPERATIONS, type Operation, type Range } from './transaction.ts';

/** Of one node on one network: what is refused beyond it is counted, and has no line of its own. */
export const MAX_REFUSALS = 256;
/** Of a node of another domain, since such nodes cost nothing. */
const MAX_FOREIGN_REFUSALS = 32;
/** What was refused and is not asked for any more is forgotten then. */
const REFUSAL_MEMORY_MS = 24 * 60 * 60 * 1000;
/** As an admin sees them on trial. */
const MAX_DRY_RUNS = 64;

export interface Refusal {
  readonly id: string;
  readonly reason: string;
}

/** What deciding reads, beside the node and the attachments. */
export const admissionReads = (network: string, node: string): Range[] => [
  one(keys.domain),
  one(keys.ruleset(network)),
  one(keys.clusterEnrolment(node)),
  ...logReads(logOf(node)),
  one(keys.refusals(network, logOf(node))),
  all(below.admissionRules(network)),
  all(below.decisions(network, node)),
];

/** `trustDomain`: the home domain. Of a node of another domain no cluster is known: nobody here saw it enrol. */
export const nodeSubject = (state: State, key: string, trustDomain: string): NodeSubject => {
  const { node, trustDomain: other } = nodeNameOf(key);
  if (other !== undefined) return { trustDomain: other, node, cluster: '' };
  const enrolment = state.clusterEnrolment(node)?.value;
  const isPresent = enrolment !== undefined && enrolment.enrolledAt === state.node(node)?.value.enrolledAt;
  return { trustDomain, node, cluster: isPresent ? enrolment.cluster : '' };
};

export const reasonOf = (network: string, subject: Subject): string => {
  const { workload, namespace, serviceAccount, node, trustDomain } = subject;
  const about = [
    ...(namespace === '' ? [] : [`namespace "${namespace}"`]),
    ...(serviceAccount === '' ? [] : [`service account "${serviceAccount}"`]),
    `node "${node}" of ${trustDomain}`,
  ];
  return `no admission rule of network "${network}" admits "${workload}" (${about.join(', ')}): an admin of the network sees why by \`vl3 admission test\`, and it is attached as soon as a rule admits it`;
};

/** The decisions of one transaction. */
export class Decisions {
  readonly #network: string;
  /** As the store calls the node. */
  readonly #key: string;
  readonly #node: NodeSubject;
  readonly #now: number;
  readonly #rules: readonly AdmissionRule[];
  readonly #held: Map<string, HeldDecision>;
  readonly #log: LogWriter;
  readonly #operations: Operation[] = [];
  readonly #state: State;
  #refusals: number;
  /** What was refused and is remembered, whatever it was called. */
  readonly #asked: Set<string>;
  /** Refused now, and not told in lines of their own. */
  #untold = 0;
  #isLast = false;

  /**
   * Undefined where nobody has touched the rules and the node is of the home domain: it is admitted, and nothing is kept of
   * that.
   */
  static of(
    state: State,
    about: {
      readonly network: string;
      readonly node: string;
      readonly trustDomain: string;
      readonly now: number;
    },
  ): Decisions | undefined {
    const isOpen = state.ruleset(about.network) === undefined;
    return isOpen && foreignDomainOf(about.node) === undefined ? undefined : new Decisions(state, about);
  }

  private constructor(
    state: State,
    { network, node, trustDomain, now }: { network: string; node: string; trustDomain: string; now: number },
  ) {
    this.#state = state;
    this.#network = network;
    this.#now = now;
    this.#key = node;
    this.#node = nodeSubject(state, node, trustDomain);
    this.#rules = rulesIn(state, network, trustDomain);
    const start = below.decisions(network, node).length;
    this.#held = new Map(state.decisions(network, node).map(({ key, value }) => [key.slice(start), value]));
    this.#refusals = [...this.#held.values()].filter(({ rule }) => rule === undefined).length;
    this.#log = LogWriter.of(state, logOf(node), now);
    this.#asked = new Set(
      [...this.#held.values()].flatMap(({ rule, question }) =>
        rule === undefined && question !== undefined ? [question] : [],
      ),
    );
  }

  /** The most operations that one decision adds. */
  static readonly OPERATIONS = 2 + LogWriter.OPERATIONS;

  /**
   * Why it is refused; undefined: it is admitted. `isAttached`: it is stored as admitted. Throws Vl3Error('unavailable')
   * when it would be refused while the registry does not know all that it knew.
   */
  decide(attachment: Attachment, isAttached: boolean): string | undefined {
    const subject: Subject = {
      ...this.#node,
      workload: attachment.workload,
      namespace: attachment.namespace ?? '',
      serviceAccount: attachment.serviceAccount ?? '',
      labels: attachment.labels,
    };
    const { rule, dryRun: all } = decide(this.#rules, subject);
    const dryRun = all.slice(0, MAX_DRY_RUNS);
    if (rule === undefined) mustIssue(this.#state, 'refusal');
    this.#note(attachment, { rule, dryRun }, isAttached);
    return rule === undefined ? reasonOf(this.#network, subject) : undefined;
  }

  /** It is not asked for any more. What was refused is remembered for a while: whoever asks again is no news. */
  forget(id: string): void {
    const held = this.#held.get(id);
    if (held === undefined) return;
    if (held.rule === undefined && held.decidedAt > this.#now - REFUSAL_MEMORY_MS) return;
    this.#operations.push({ kind: 'delete', key: keys.decision(this.#network, this.#key, id) });
  }

  /** Of those that nobody asks for any more. */
  forgetAllBut(asked: ReadonlySet<string>): void {
    for (const id of this.#held.keys())
      if (!asked.has(id) && this.#operations.length < MAX_OPERATIONS / 4) this.forget(id);
  }

  /** Everything that was asked for was decided: what has no line of its own is counted now, or it would be several times. */
  end(): void {
    this.#isLast = true;
  }

  /** Lines of the log. */
  get logged(): number {
    return this.#log.lines;
  }

  /** How many there are so far. */
  get size(): number {
    return this.#operations.length + this.#log.operations.length + Number(this.#untold > 0);
  }

  get operations(): Operation[] {
    const [network, of] = [this.#network, logOf(this.#key)];
    const tally = this.#state.refusalTally(network, of)?.value;
    return [
      ...this.#operations,
      ...this.#log.operations,
      ...counting(tally, { network, of, count: this.#isLast ? this.#untold : 0 }, this.#now),
    ];
  }

  /** What must not have changed since. */
  get compares(): Compare[] {
    return [
      this.#state.unchanged(keys.ruleset(this.#network)),
      this.#state.unchanged(keys.clusterEnrolment(this.#key)),
      ...(this.size === 0 ? [] : [this.#state.unchanged(keys.logHead)]),
      ...(this.#untold === 0 ? [] : [this.#state.unchanged(keys.refusals(this.#network, logOf(this.#key)))]),
    ];
  }

  #note(
    attachment: Attachment,
    { rule, dryRun }: Omit<HeldDecision, 'decidedAt'>,
    isAttached: boolean,
  ): void {
    const { id } = attachment;
    const before = this.#held.get(id);
    const isRefused = rule === undefined;
    if (before?.rule === rule && before !== undefined && before.dryRun.join() === dryRun.join()) return;
    if (isRefused && before?.rule !== undefined) this.#refusals++;
    const most = foreignDomainOf(this.#key) === undefined ? MAX_REFUSALS : MAX_FOREIGN_REFUSALS;
    const question = isRefused ? questionOf(attachment) : undefined;
    if (question !== undefined && before === undefined) {
      // Under another id it is the same again, and beyond the bound whatever it is.
      if ((!isAttached && this.#asked.has(question)) || ++this.#refusals > most) {
        this.#untold++;
        return;
      }
      this.#asked.add(question);
    }
    const value: HeldDecision = {
      ...(rule !== undefined && { rule }),
      ...{ dryRun, decidedAt: this.#now },
      ...(question !== undefined && { question }),
    };
    this.#operations.push(put(keys.decision(this.#network, this.#key, id), heldDecision, value));
    const isNews = before === undefined || before.rule !== rule;
    if (!isNews && dryRun.length === 0) return;
    const kind: LogEntry['kind'] = !isNews
      ? 'would-admit'
      : isRefused
        ? isAttached || before?.rule !== undefined
          ? 'withdrawn'
          : 'refused'
        : 'admitted';
    this.#log.add({
      ...this.#entryOf(attachment),
      kind,
      ...(rule !== undefined && { rule }),
      ...(dryRun.length > 0 && { dryRun }),
    });
  }

  #entryOf(attachment: Attachment): Omit<LogEntry, 'sequence' | 'at' | 'of' | 'previous' | 'kind'> {
    const { trustDomain, cluster, node } = this.#node;
    const { id, workload, namespace, serviceAccount, labels, addresses } = attachment;
    return {
      network: this.#network,
      trustDomain,
      ...(cluster !== '' && { cluster }),
      node,
      attachment: id,
      workload,
      ...(namespace !== undefined && { namespace }),
      ...(serviceAccount !== undefined && { serviceAccount }),
      labels,
      addresses,
    };
  }
}

const encoder = new TextEncoder();

/** All that rules look at. */
const questionOf = ({ workload, namespace, serviceAccount, labels }: Attachment): string => {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return hashOf(encoder.encode(JSON.stringify([workload, namespace, serviceAccount, sorted]))).slice(0, 16);
};

/**
 * Decides anew on what a node has attached: what no rule admits any more is struck out. A transaction's worth at a time:
 * while `remaining` is above 0, decide again. Answers what was struck out.
 */
export const redecide = (
  network: string,
  node: string,
  trustDomain: string,
  now: number,
): Rule<{ readonly remaining: number; readonly withdrawn: readonly Attachment[] }> => {
  const attached = below.attachments(network, node);
  return {
    reads: [
      ...admissionReads(network, node),
      one(keys.network(network)),
      one(identityKey(node)),
      one(keys.member(network, node)),
      all(attached),
    ],
    decide: (state) => {
      const nothing = settled({ remaining: 0, withdrawn: [] });
      if (state.member(network, node) === undefined || state.network(network) === undefined) return nothing;
      mustBeNetwork(state, network);
      // What was decided stands until the registry knows again what it knew.
      if (recoveryOf(state) !== undefined) return nothing;
      const decisions = Decisions.of(state, { network, node, trustDomain, now });
      if (decisions === undefined) return nothing;
      const operations: Operation[] = [];
      const withdrawn: Attachment[] = [];
      let remaining = 0;
      for (const { key, value } of state.attachments(network, node)) {
        const size = operations.length + decisions.size;
        if (size + Decisions.OPERATIONS + 1 > MAX_OPERATIONS) {
          remaining++;
          continue;
        }
        if (decisions.decide(value, true) === undefined) continue;
        operations.push({ kind: 'delete', key });
        withdrawn.push(value);
      }
      if (remaining === 0) decisions.end();
      operations.push(...decisions.operations);
      if (operations.length === 0) return nothing;
      return {
        compares: [
          ...decisions.compares,
          state.unchanged(keys.member(network, node)),
          state.noneNewer(attached),
        ],
        operations,
        answer: { remaining, withdrawn },
      };
    },
  };
};
