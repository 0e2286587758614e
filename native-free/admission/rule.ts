// An admission rule: which workloads may attach to a network. Rules only admit, so their order means nothing. Of what they
// look at, trust domain, cluster and node are proven; namespace, service account, workload and labels are the word of the
// node that asks. Not here: who is admitted (decision.ts), and where rules are kept (registry/admission-rules.ts).

import { z } from 'zod';
import { labels, name } from '../registry/model.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';

/** In characters. */
export const MAX_EXPRESSION_LENGTH = 2048;

/** Of one network. */
export const MAX_RULES = 1024;

/** The rule that a network has until an admin takes it away. */
export const HOME_RULE = 'home';

const kubernetesName = z
  .string()
  .max(253, 'use at most 253 characters')
  .regex(
    /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/,
    'use a Kubernetes name: lowercase letters, digits, hyphens and dots',
  );

export const admissionRule = z.strictObject({
  network: name,
  name,
  /** Whose nodes: the home domain's, or a partner's. */
  trustDomain: z.string().refine(isTrustDomain, 'is not a trust domain'),
  /** The Kubernetes cluster by whose word the node enrolled. */
  cluster: name.optional(),
  node: name.optional(),
  namespace: kubernetesName.optional(),
  serviceAccount: kubernetesName.optional(),
  labels: labels.optional(),
  /** In CEL, see expression.ts. */
  workload: z.string().min(1).max(MAX_EXPRESSION_LENGTH).optional(),
  /** Admits nobody: what it would have done goes into the log. */
  isDryRun: z.boolean(),
  createdAt: z.number().int().min(0),
});
export type AdmissionRule = z.infer<typeof admissionRule>;

/** "Home domain: everyone", which holds until it is deleted. */
export const homeRule = (network: string, trustDomain: string): AdmissionRule => ({
  network,
  name: HOME_RULE,
  trustDomain,
  isDryRun: false,
  createdAt: 0,
});

/** Whether it looks at nothing but the node: then it admits everything of that, whatever the node says. */
export const looksAtNodeOnly = ({ namespace, serviceAccount, labels, workload }: AdmissionRule): boolean =>
  namespace === undefined && serviceAccount === undefined && labels === undefined && workload === undefined;
