// The calls that the informer makes to a cluster's API server, with Kubernetes' own client, which is loaded only when it is
// called: it takes a second and 90 MB. Lists and single objects come as the client understood them, watched ones as they
// came; who reads them checks them. Not here: what is tried again and when (reflector.ts).

import { apiCall } from './api-call.ts';
import { clusterConfig } from './cluster-config.ts';

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
  /** By a JSON merge patch of its status; null takes the annotation away. `uid` is that of the object. */
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
/** The server ends a watch after about this long, so that watchers spread over servers again. */
const WATCH_SECONDS = 300;
/** Bookmarks come every minute: a watch that says nothing for so long is dead. */
const SILENCE_MS = 150_000;
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
  const config = await clusterConfig(kubeconfig, 'agent', signal);
  const { CoreV1Api, PatchStrategy, setHeaderOptions, Watch } = await import('@kubernetes/client-node');
  const call = <T>(what: string, work: () => Promise<T>): Promise<T> => apiCall('agent', what, work);
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
        await core.patchNamespacedPodStatus({ namespace, name, body, fieldManager: COMPONENT }, how);
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
