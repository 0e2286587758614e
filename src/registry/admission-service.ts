// AdmissionService: each RPC reads its request, runs a rule, and answers with messages. Access was checked before.

import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { admitsWholeNode, explain, type Subject } from '../../native-free/admission/decision.ts';
import { homeRule } from '../../native-free/admission/rule.ts';
import { Vl3Error } from '../../native-free/error.ts';
import { nodeSubject } from '../../native-free/registry/admission-decisions.ts';
import {
  createAdmissionRule,
  deleteAdmissionRule,
  rulesIn,
} from '../../native-free/registry/admission-rules.ts';
import { foreignKey } from '../../native-free/registry/foreign-key.ts';
import { mustBeOfFederation } from '../../native-free/registry/foreign-rules.ts';
import { all, below, keys, one } from '../../native-free/registry/keys.ts';
import { check, labels as labelsSchema, name as nameSchema } from '../../native-free/registry/model.ts';
import type { SignedRecord } from '../../native-free/registry/record.ts';
import { mustBeNetwork } from '../../native-free/registry/rules.ts';
import type { AdmissionService } from '../api/generated/vl3/v1/admission_pb.js';
import { ruleMessage, ruleOf } from './admission-messages.ts';
import { callerKey } from './caller.ts';
import type { RegistryContext } from './context.ts';
import { readLog, type StoredLog } from './decision-log.ts';
import { Turns } from './turns.ts';

/** Of the log, in one message. */
const ENTRIES_AT_ONCE = 256;
/** Whoever takes longer to take a log begins anew: it is held in memory meanwhile, and who only looks may not fill that. */
const EXPORTS = { atOnce: 4, longestMs: 60_000 };

const ruleReads = (network?: string) => [
  ...(network === undefined
    ? [all(below.networks), all(below.rulesets)]
    : [one(keys.network(network)), one(keys.ruleset(network))]),
  all(below.admissionRules(network)),
];

export const admissionService = (context: RegistryContext): ServiceImpl<typeof AdmissionService> => {
  const { transactor, store, signer, now, logger } = context;
  const { trustDomain } = signer.trustBundle;
  const exports = new Turns(EXPORTS);
  let ending: Promise<unknown> = Promise.resolve();

  /** One after another: a signer apart signs no end that comes before one that it signed. */
  const signedLog = async (): Promise<{ log: StoredLog; head: SignedRecord }> => {
    const made = ending.then(async () => {
      const log = await readLog(store);
      const bytes = new TextEncoder().encode(JSON.stringify({ trustDomain, ...log.head, at: now() }));
      return { log, head: await signer.signLogHead(bytes) };
    });
    ending = made.catch(() => undefined);
    return await made;
  };

  const changeBy = (handler: HandlerContext) => {
    const caller = handler.values.get(callerKey);
    if (caller.role === 'anonymous') throw new Vl3Error('permission-denied', 'this call is for admins');
    return { admin: caller.name, now: now(), trustDomain };
  };

  /** Why nobody of a domain may come to the network, whatever its rules say; empty: nothing is in the way. */
  const obstacleOf = async (network: string, domain: string): Promise<string> => {
    if (domain === trustDomain) return '';
    const state = await transactor.read([one(keys.federation(domain))]);
    try {
      mustBeOfFederation(state, network, foreignKey('node', domain));
      return '';
    } catch (error) {
      if (error instanceof Vl3Error && error.code === 'permission-denied') return error.message;
      throw error;
    }
  };

  return {
    async createAdmissionRule({ rule }, handler) {
      if (rule === undefined) throw new Vl3Error('invalid-argument', 'rule: it is missing');
      const { answer } = await transactor.run(
        createAdmissionRule(ruleOf(rule, trustDomain), changeBy(handler)),
      );
      logger.info(
        { network: answer.network, rule: answer.name, isDryRun: answer.isDryRun },
        'admission rule created',
      );
      const obstacle = await obstacleOf(answer.network, answer.trustDomain);
      return { rule: ruleMessage(answer), warnings: obstacle === '' ? [] : [obstacle] };
    },

    async listAdmissionRules({ network }) {
      if (network === '') {
        const state = await transactor.read(ruleReads());
        const rules = state.networks().flatMap(({ value }) => {
          const stored = state.admissionRules().filter((rule) => rule.value.network === value.name);
          const isOpen =
            state.rulesets().find((one) => one.value.network === value.name)?.value.isOpen ?? true;
          return [
            ...(isOpen ? [homeRule(value.name, trustDomain)] : []),
            ...stored.map((rule) => rule.value),
          ];
        });
        return { rules: rules.map(ruleMessage) };
      }
      check(nameSchema, network, 'network');
      const state = await transactor.read(ruleReads(network));
      mustBeNetwork(state, network);
      return { rules: rulesIn(state, network, trustDomain).map(ruleMessage) };
    },

    async deleteAdmissionRule({ network, name }, handler) {
      const { answer } = await transactor.run(deleteAdmissionRule(network, name, changeBy(handler)));
      logger.info({ network, rule: answer.name }, 'admission rule deleted');
      return {};
    },

    async testAdmission(request) {
      const { network, node } = request;
      check(nameSchema, network, 'network');
      if (node !== '') check(nameSchema, node, 'node');
      const isForeign = request.trustDomain !== '' && request.trustDomain !== trustDomain;
      const isKnown = node !== '' && (request.trustDomain === '' || request.trustDomain === trustDomain);
      const state = await transactor.read([
        ...ruleReads(network),
        ...(isKnown ? [one(keys.node(node)), one(keys.clusterEnrolment(node))] : []),
      ]);
      mustBeNetwork(state, network);
      const known =
        isKnown && state.node(node) !== undefined ? nodeSubject(state, node, trustDomain) : undefined;
      const subject: Subject = {
        trustDomain: request.trustDomain === '' ? trustDomain : request.trustDomain,
        node,
        // Of a node of another domain it is not known.
        cluster: isForeign ? '' : (known?.cluster ?? request.cluster),
        namespace: request.namespace,
        serviceAccount: request.serviceAccount,
        workload: request.workload,
        labels: check(labelsSchema, request.labels, 'labels'),
      };
      const rules = rulesIn(state, network, trustDomain);
      const verdicts = explain(rules, subject).map(({ rule, verdict }) => ({
        rule: rule.name,
        admits: verdict.kind === 'admits',
        isDryRun: rule.isDryRun,
        whyNot: verdict.kind === 'not' ? verdict.why : '',
      }));
      const obstacle = await obstacleOf(network, subject.trustDomain);
      const admitting = verdicts.find(({ admits, isDryRun }) => admits && !isDryRun);
      return {
        isAdmitted: admitting !== undefined && obstacle === '',
        rule: admitting?.rule ?? '',
        isWholeNode: !isForeign && admitsWholeNode(rules, subject) !== undefined,
        verdicts,
        trustDomain: subject.trustDomain,
        cluster: subject.cluster,
        obstacle,
      };
    },

    async *exportAdmissionLog() {
      const giveBack = await exports.take();
      const held: { log?: StoredLog } = {};
      const forgetting = setTimeout(() => {
        delete held.log;
      }, EXPORTS.longestMs);
      const log = (): StoredLog => {
        if (held.log !== undefined) return held.log;
        throw new Vl3Error('aborted', 'the log was taken too slowly: export it again');
      };
      try {
        const { log: read, head } = await signedLog();
        held.log = read;
        for (let at = 0; at < log().lines.length; at += ENTRIES_AT_ONCE)
          yield { entries: log().lines.slice(at, at + ENTRIES_AT_ONCE) };
        const { record, signature, certificateChain } = head;
        yield { head: { head: record, signature, certificateChain: [...certificateChain] } };
      } finally {
        clearTimeout(forgetting);
        giveBack();
      }
    },
  };
};
