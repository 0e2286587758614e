// Admission rules and what is said of them as messages of the API.

import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type * as admission from '../../native-free/admission/rule.ts';
import { type AdmissionRule, AdmissionRuleSchema } from '../api/generated/vl3/v1/admission_pb.js';

export const ruleMessage = (rule: admission.AdmissionRule): AdmissionRule =>
  create(AdmissionRuleSchema, {
    network: rule.network,
    name: rule.name,
    trustDomain: rule.trustDomain,
    cluster: rule.cluster ?? '',
    node: rule.node ?? '',
    namespace: rule.namespace ?? '',
    serviceAccount: rule.serviceAccount ?? '',
    labels: rule.labels ?? {},
    workload: rule.workload ?? '',
    isDryRun: rule.isDryRun,
    ...(rule.createdAt > 0 && { createdAt: timestampFromMs(rule.createdAt) }),
  });

/** As an admin wrote it; whoever takes it checks it. */
export const ruleOf = (message: AdmissionRule, home: string): admission.AdmissionRule => ({
  network: message.network,
  name: message.name,
  trustDomain: message.trustDomain === '' ? home : message.trustDomain,
  ...(message.cluster !== '' && { cluster: message.cluster }),
  ...(message.node !== '' && { node: message.node }),
  ...(message.namespace !== '' && { namespace: message.namespace }),
  ...(message.serviceAccount !== '' && { serviceAccount: message.serviceAccount }),
  ...(Object.keys(message.labels).length > 0 && { labels: message.labels }),
  ...(message.workload !== '' && { workload: message.workload }),
  isDryRun: message.isDryRun,
  createdAt: 0,
});
