// The calls that the informer makes to a cluster's API server, with Kubernetes' own client, which is loaded only here and
// only then: it takes a second and 90 MB. Lists and single objects come as the client understood them, watched ones as they
// came; who reads them checks them. Not here: what is tried again and when (reflector.ts).

import { existsSync } from 'node:fs';
import { Vl3Error } from '../../native-free/error.ts';
import { GONE } from '../../native-free/kube/watch-event.ts';

export const RESOURCES = ['pods', 'namespaces'] as const;
export type Resource = (typeof RESOURCES)[number];

export interface Page {
  readonly items: readonly unknown[];
  readonly resourceVersion: string;
  /** Where the next page begins; empty: this is the last. */
  readonly more: string;
}

export interface PodEvent {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly reason: string;
  readonly message: string;
  /** Unix ms. */
  readonly at: number;
}

/** All throw Vl3Error: 'aborted' when what is named is no more (410, or another pod of that name), 'not-found', others. */
export interface KubernetesApi {
  list(resource: Resource, more: string): Promise<Page>;
  /** Until the server ends it, which it does every few minutes, or `onEvent` answers false. */
  watch(
    resource: Resource,
    resourceVersion: string,
    onEvent: (type: string, object: unknown) => boolean,
  ): Promise<void>;
  readPod(namespace: string, name: string): Promise<unknown>;
  /** By a JSON merge patch; null takes the annotation away. `uid` is that of the object. */
  annotatePod(
    pod: { readonly namespace: string; readonly name: string; readonly uid: string },
    key: string,
    text: string | null,
  ): Promise<void>;
  createEvent(event: PodEvent): Promise<void>;
}

export interface KubernetesOptions {
  /** Undefined: as a pod of the cluster, by its service account. */
  readonly kubeconfig: string | undefined;
  /** As Kubernetes calls this node; undefined: as it is called here. */
  readonly nodeName: string | undefined;
}

const PAGE = 500;
const CALL_MS = 30_000;
/** The server ends a watch after about this long, so that watchers spread over servers again. */
const WATCH_SECONDS = 300;
/** Bookmarks come every minute: a watch that says nothing for so long is dead. */
const SILENCE_MS = 150_000;
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount/token';
const COMPONENT = 'vl3-agent';
const MAX_MESSAGE = 1024;

/**
 * Throws Vl3Error when there is nothing to connect by; the server is not asked yet, nor what this node is called here.
 * Calls end with `signal`.
 */
export const connectKubernetes = async (
  { kubeconfig, nodeName }: KubernetesOptions,
  ownName: () => string,
  signal: AbortSignal,
): Promise<KubernetesApi> => {
  if (kubeconfig === undefined && !existsSync(SERVICE_ACCOUNT))
    throw new Vl3Error(
      'failed-precondition',
      'there is no service account of a cluster here: run the agent as a pod of the cluster, or name a file with --kubeconfig',
    );
  const { CoreV1Api, KubeConfig, PatchStrategy, setHeaderOptions, Watch } = await import(
    '@kubernetes/client-node'
  );
  const config = new (class extends KubeConfig {
    override async applySecurityAuthentication(
      context: Parameters<InstanceType<typeof KubeConfig>['applySecurityAuthentication']>[0],
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
  const core = config.makeApiClient(CoreV1Api);
  const ofNode = () => ({ fieldSelector: `spec.nodeName=${nodeName ?? ownName()}` });

  return {
    list: (resource, more) =>
      call(`list ${resource}`, async () => {
        const page = { limit: PAGE, ...(more === '' ? {} : { _continue: more }) };
        const { metadata, items } =
          resource === 'pods'
            ? await core.listPodForAllNamespaces({ ...page, ...ofNode() })
            : await core.listNamespace(page);
        return { items, resourceVersion: metadata?.resourceVersion ?? '', more: metadata?._continue ?? '' };
      }),

    watch: (resource, resourceVersion, onEvent) =>
      call(`watch ${resource}`, async () => {
        // The library's own idea of silence is half a minute, in which a quiet cluster says nothing.
        const watch = new Watch(config);
        Reflect.set(watch, 'requestTimeoutMs', SILENCE_MS);
        const ended = Promise.withResolvers<void>();
        const query = {
          resourceVersion,
          allowWatchBookmarks: true,
          timeoutSeconds: WATCH_SECONDS,
          ...(resource === 'pods' ? ofNode() : {}),
        };
        const stop = new AbortController();
        const take = (type: string, object: unknown): void => {
          if (!stop.signal.aborted && !onEvent(type, object)) stop.abort();
        };
        const request = await watch.watch(`/api/v1/${resource}`, query, take, (error: unknown) =>
          error == null || stop.signal.aborted ? ended.resolve() : ended.reject(error),
        );
        const over = AbortSignal.any([signal, stop.signal]);
        const abort = (): void => request.abort();
        over.addEventListener('abort', abort);
        if (over.aborted) abort();
        try {
          await ended.promise;
        } finally {
          over.removeEventListener('abort', abort);
        }
      }),

    readPod: (namespace, name) =>
      call(`read pod ${namespace}/${name}`, () => core.readNamespacedPod({ namespace, name })),

    annotatePod: ({ namespace, name, uid }, key, text) =>
      call(`annotate pod ${namespace}/${name}`, async () => {
        const body = { metadata: { uid, annotations: { [key]: text } } };
        const how = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
        await core.patchNamespacedPod({ namespace, name, body, fieldManager: COMPONENT }, how);
      }),

    createEvent: ({ namespace, name, uid, reason, message, at }) =>
      call(`report an event of pod ${namespace}/${name}`, async () => {
        const when = new Date(at);
        await core.createNamespacedEvent({
          namespace,
          body: {
            metadata: { generateName: `${name.slice(0, 200)}.vl3-`, namespace },
            involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
            reason,
            message: message.slice(0, MAX_MESSAGE),
            type: 'Warning',
            count: 1,
            firstTimestamp: when,
            lastTimestamp: when,
            source: { component: COMPONENT, host: nodeName ?? ownName() },
          },
        });
      }),
  };
};

/** `what` follows "may not" and "cannot". */
const call = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (cause) {
    throw asVl3Error(what, cause);
  }
};

const asVl3Error = (what: string, cause: unknown): Vl3Error => {
  const status = statusOf(cause);
  const why = reasonOf(cause);
  switch (status) {
    case undefined:
      return new Vl3Error('unavailable', `the API server cannot be asked to ${what}: ${why}`, { cause });
    case 401:
      return new Vl3Error(
        'unauthenticated',
        `the API server does not know who asks to ${what}: check the service account's token, or --kubeconfig`,
        { cause },
      );
    case 403:
      return new Vl3Error(
        'permission-denied',
        `the agent may not ${what}: apply the RBAC rules of deploy/examples/kubernetes (${why})`,
        { cause },
      );
    case 404:
      return new Vl3Error('not-found', `the API server cannot ${what}: ${why}`, { cause });
    case 409:
    case GONE:
      return new Vl3Error('aborted', `the API server cannot ${what}: ${why}`, { cause });
    default:
      return new Vl3Error('unavailable', `the API server answers ${status} when asked to ${what}: ${why}`, {
        cause,
      });
  }
};

/** The library says `code` of calls and `statusCode` of watches. */
const statusOf = (error: unknown): number | undefined => {
  if (!(error instanceof Error)) return undefined;
  for (const key of ['code', 'statusCode']) {
    const value: unknown = Reflect.get(error, key);
    if (typeof value === 'number') return value;
  }
  return undefined;
};

const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error).slice(0, 300);
  const body: unknown = Reflect.get(error, 'body');
  if (typeof body === 'string')
    return /"message":"((?:[^"\\]|\\.)*)"/.exec(body)?.[1]?.slice(0, 300) ?? 'no reason';
  // fetch says "fetch failed", and why in the cause.
  const { cause } = error;
  return (cause instanceof Error && cause.message !== '' ? cause.message : error.message).slice(0, 300);
};
