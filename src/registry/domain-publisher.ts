// Tells the nodes of the registry's own cluster where it is: writes the domain's address into a ConfigMap that their agents mount.
// The object is there already (the chart makes it), so that no more than patching this one has to be allowed. Said again every
// few minutes, and sooner after it failed; a registry that cannot say it does all else.

import type { Logger } from 'pino';
import { backoffMs } from '../../native-free/reconcile/backoff.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import type { InCluster } from './cluster-keys.ts';
import { callHttps } from './https-call.ts';

export interface ConfigMapName {
  readonly namespace: string;
  readonly name: string;
}

/** The key in it: the file's name, where it is mounted. */
const KEY = 'domain';
const AGAIN_MS = 5 * 60_000;
const RETRY = { firstMs: 1_000, capMs: 60_000 };

interface Dependencies {
  readonly inCluster: InCluster;
  readonly logger: Logger;
}

/** Begins at once; the first word is not waited for. */
export const publishDomain = (
  { namespace, name }: ConfigMapName,
  address: string,
  { inCluster: { url, caFile, tokenFile }, logger }: Dependencies,
): AsyncDisposable => {
  const stop = new AbortController();
  const { signal } = stop;
  const reasons = new RepeatedReasons();
  const text = JSON.stringify({ data: { [KEY]: address } });
  const body = { type: 'application/merge-patch+json', text };
  const call = { url: `${url}/api/v1/namespaces/${namespace}/configmaps/${name}`, caFile, tokenFile };
  let isSaid = false;
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  const say = async (): Promise<void> => {
    let next = AGAIN_MS;
    try {
      await callHttps({ ...call, method: 'PATCH', body, signal });
      if (!isSaid)
        logger.info({ namespace, configMap: name, address }, 'nodes of this cluster are told where it is');
      isSaid = true;
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      const reason = error instanceof Error ? error.message : String(error);
      const again = reasons.take(reason, performance.now());
      if (again !== undefined)
        logger.warn({ reason, again }, 'nodes of this cluster cannot be told where the registry is');
      next = backoffMs(RETRY, failures++, Math.random());
    }
    if (!signal.aborted) timer = setTimeout(() => (running = say()), next);
  };
  let running = say();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      clearTimeout(timer);
      await running;
    },
  };
};
