// Where the informer's API server is and by which credentials it is asked: of the pod's service account, read here, or of a
// kubeconfig, for which Kubernetes' client knows all the ways. That takes 80 MB to load, which no node of a cluster should
// need only to watch its pods.

import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { Vl3Error } from '../../native-free/error.ts';
import { clusterConfig } from './cluster-config.ts';

export interface ApiAccess {
  readonly server: URL;
  /** Headers, certificates, and whatever else a request needs to be let in: what is renewed is read anew. */
  apply(): Promise<RequestOptions>;
}

/** Where a pod finds its service account. */
export const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface ServiceAccountOptions {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Throws Vl3Error('failed-precondition') where there is none. */
export const serviceAccountAccess = ({ directory, environment }: ServiceAccountOptions): ApiAccess => {
  const host = environment['KUBERNETES_SERVICE_HOST'] ?? '';
  const port = environment['KUBERNETES_SERVICE_PORT'] ?? '443';
  const server = URL.parse(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`);
  const read = () => ({
    headers: { authorization: `Bearer ${readFileSync(join(directory, 'token'), 'utf8').trim()}` },
    ca: readFileSync(join(directory, 'ca.crt')),
  });
  try {
    if (host === '' || server === null) throw new Error('KUBERNETES_SERVICE_HOST does not name a server');
    read();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Vl3Error(
      'failed-precondition',
      `there is no service account of a cluster here (${why}): run the agent as a pod of the cluster, or name a file with --kubeconfig`,
      { cause },
    );
  }
  // The kubelet renews the token, and the authority may be another one day.
  return { server, apply: async () => read() };
};

/** Throws Vl3Error('failed-precondition') when it cannot be used. */
export const kubeconfigAccess = async (path: string, signal: AbortSignal): Promise<ApiAccess> => {
  const config = await clusterConfig(path, 'agent', signal);
  const cluster = config.getCurrentCluster();
  const server = URL.parse(cluster?.server ?? '');
  if (server?.protocol !== 'https:')
    throw new Vl3Error(
      'failed-precondition',
      `${path} cannot be used (the server of its current cluster is not at an https:// address): check --kubeconfig`,
    );
  return {
    server,
    apply: async () => {
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      // Its agent opens a connection for every call; only a proxy cannot be done without.
      if (cluster?.proxyUrl === undefined) delete options.agent;
      return options;
    },
  };
};
