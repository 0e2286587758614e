// All targets, in the order in which they run.

import type { Target } from './target.ts';
import { admissionTargets } from './targets/admission.ts';
import { clusterTargets } from './targets/clusters.ts';
import { datapathTargets } from './targets/datapath.ts';
import { dnsTargets } from './targets/dns.ts';
import { federationTargets } from './targets/federation.ts';
import { identityTargets } from './targets/identity.ts';
import { kubeTargets } from './targets/kube.ts';
import { nameTargets } from './targets/names.ts';
import { programTargets } from './targets/program.ts';
import { protocolTargets } from './targets/protocol.ts';
import { registryTarget } from './targets/registry.ts';
import { savedStateTargets } from './targets/saved-state.ts';
import { segmentationTargets } from './targets/segmentation.ts';
import { tableTargets } from './targets/tables.ts';
import { trustTargets } from './targets/trust.ts';
import { uapiTargets } from './targets/uapi.ts';
import { wireTargets } from './targets/wire.ts';
import { duplexTarget, workersTarget } from './targets/workers.ts';

export const TARGETS: readonly Target[] = [
  ...wireTargets,
  ...segmentationTargets,
  ...tableTargets,
  ...protocolTargets,
  ...datapathTargets,
  ...uapiTargets,
  ...nameTargets,
  ...dnsTargets,
  ...kubeTargets,
  ...identityTargets,
  ...clusterTargets,
  ...admissionTargets,
  ...federationTargets,
  ...trustTargets,
  ...programTargets,
  ...savedStateTargets,
  registryTarget,
];

/** These need root, and make a namespace. */
export const MACHINE_TARGETS: readonly Target[] = [workersTarget, duplexTarget];
