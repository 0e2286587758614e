// How a program reaches its cluster's API server: by a kubeconfig, or as a pod. Kubernetes' client is loaded only now.

import { existsSync } from 'node:fs';
import type { KubeConfig } from '@kubernetes/client-node';
import { Vl3Error } from '../../native-free/error.ts';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount/token';
const CALL_MS = 30_000;

/**
 * `kubeconfig` undefined: by the service account of the pod. `who` is the program. Throws Vl3Error when there is nothing to
 * connect by; the server is not asked yet. Calls end with `signal`, or after half a minute.
 */
export const clusterConfig = async (
  kubeconfig: string | undefined,
  who: string,
  signal: AbortSignal,
): Promise<KubeConfig> => {
  if (kubeconfig === undefined && !existsSync(SERVICE_ACCOUNT))
    throw new Vl3Error(
      'failed-precondition',
      `there is no service account of a cluster here: run the ${who} as a pod of the cluster, or name a file with --kubeconfig`,
    );
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new (class extends KubeConfig {
    override async applySecurityAuthentication(
      context: Parameters<KubeConfig['applySecurityAuthentication']>[0],
    ): Promise<void> {
      await super.applySecurityAuthentication(context);
      // Where every call passes by; a watch takes only the headers from here.
      context.setSignal(AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]));
    }
  })();
  try {
    if (kubeconfig === undefined) config.loadFromCluster();
    else config.loadFromFile(kubeconfig);
    if (config.getCurrentCluster() === null)
      throw new Error('it has no current context that names a cluster');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error('failed-precondition', `${kubeconfig} cannot be used (${why}): check --kubeconfig`, {
      cause,
    });
  }
  return config;
};
