// Puts the informer together, where there is a cluster.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { NAMESPACE_DEFAULTS } from '../../native-free/cni/namespace-defaults.ts';
import type { AttachmentDocument } from '../../native-free/reconcile/documents.ts';
import type { Attachments } from '../agent/attachments.ts';
import type { Networks } from '../agent/networks.ts';
import { defaultInterfaceName } from '../netns/names.ts';
import { ContainerRuntime } from './container-runtime.ts';
import { Informer, type InformerDeps } from './informer.ts';
import type { KubernetesApi } from './kubernetes-api.ts';

export interface ClusterOptions {
  /** Default: the service account of the agent's pod. */
  readonly kubeconfig: string | undefined;
  /** Default: the agent's name. */
  readonly nodeName: string | undefined;
  /** Default: where runtimes usually listen. */
  readonly runtimeEndpoint: string | undefined;
}

export interface OpenInformerOptions {
  readonly runDirectory: string;
  readonly runtimeEndpoint: string | undefined;
}

export interface OpenInformerDeps extends Pick<InformerDeps, 'domains' | 'clock' | 'logger'> {
  readonly attachments: Attachments;
  readonly networks: Pick<Networks, 'get'>;
}

/** Undefined where there is no cluster; then what an earlier agent knew of namespaces goes. */
export const openInformer = (
  api: KubernetesApi | undefined,
  { runDirectory, runtimeEndpoint }: OpenInformerOptions,
  { attachments, networks, ...deps }: OpenInformerDeps,
): Informer | undefined => {
  const defaultsFile = join(runDirectory, NAMESPACE_DEFAULTS);
  if (api === undefined) {
    rmSync(defaultsFile, { force: true });
    return undefined;
  }
  const identify = (path: string): Promise<string | undefined> => attachments.identify(path);
  const shown = (one: AttachmentDocument) => networks.get(one.network)?.router.interfaceOf(one);
  const now = deps.clock.monotonic;
  const runtime = new ContainerRuntime({ endpoint: runtimeEndpoint }, { identify, now });
  return new Informer({ defaultsFile }, { ...deps, api, runtime, attachments, defaultInterfaceName, shown });
};
