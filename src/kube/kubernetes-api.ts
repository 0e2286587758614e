// The calls that the informer makes to a cluster's API server. Objects are given as they came; who reads them checks them.
// Not here: by which credentials (api-access.ts), over which connections (api-connection.ts), and what is tried again and
// when (reflector.ts).

import { z } from 'zod';
import { type ApiAccess, kubeconfigAccess, SERVICE_ACCOUNT, serviceAccountAccess } from './api-access.ts';
import { apiCall } from './api-call.ts';
import { ApiConnection } from './api-connection.ts';

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
const COMPONENT = 'vl3-agent';
const MAX_MESSAGE = 1024;

const pageSchema = z.object({
  metadata: z.object({ resourceVersion: z.string().default(''), continue: z.string().default('') }),
  items: z.array(z.unknown()).nullish(),
});
const eventSchema = z.object({ type: z.string(), object: z.unknown() });

/**
 * Throws Vl3Error when there is nothing to connect by; the server is not asked yet, nor what this node is called here.
 * Calls end with `signal`.
 */
export const connectKubernetes = async (
  { kubeconfig, nodeName }: KubernetesOptions,
  ownName: () => string,
  signal: AbortSignal,
): Promise<KubernetesApi> => {
  const access =
    kubeconfig === undefined
      ? serviceAccountAccess({ directory: SERVICE_ACCOUNT, environment: process.env })
      : await kubeconfigAccess(kubeconfig, signal);
  return kubernetesApi(access, () => nodeName ?? ownName(), signal);
};

/** `node`: as Kubernetes calls it. */
export const kubernetesApi = (access: ApiAccess, node: () => string, signal: AbortSignal): KubernetesApi => {
  const connection = new ApiConnection(access, signal);
  signal.addEventListener('abort', () => connection[Symbol.dispose](), { once: true });
  const call = <T>(what: string, work: () => Promise<T>): Promise<T> => apiCall('agent', what, work);
  const ofNode = (resource: Resource) =>
    resource === 'pods' ? { fieldSelector: `spec.nodeName=${node()}` } : {};

  return {
    list: (resource, more) =>
      call(`list ${resource}`, async () => {
        const query = { limit: PAGE, ...ofNode(resource), ...(more === '' ? {} : { continue: more }) };
        const answer = await connection.call({ method: 'GET', path: `/api/v1/${resource}`, query });
        const { data } = pageSchema.safeParse(answer);
        if (data === undefined) throw new Error('its answer is no list');
        const { metadata, items } = data;
        return { items: items ?? [], resourceVersion: metadata.resourceVersion, more: metadata.continue };
      }),

    watch: (resource, resourceVersion, onEvent) =>
      call(`watch ${resource}`, async () => {
        const query = {
          watch: true,
          resourceVersion,
          allowWatchBookmarks: true,
          timeoutSeconds: WATCH_SECONDS,
          ...ofNode(resource),
        };
        await connection.lines({ method: 'GET', path: `/api/v1/${resource}`, query }, (line) => {
          const { data } = eventSchema.safeParse(line);
          if (data === undefined) throw new Error('a line of its answer is no event');
          return onEvent(data.type, data.object);
        });
      }),

    readPod: (namespace, name) =>
      call(`read pod ${namespace}/${name}`, () =>
        connection.call({ method: 'GET', path: pathOf(namespace, name) }),
      ),

    annotatePod: ({ namespace, name, uid }, key, text) =>
      call(`annotate pod ${namespace}/${name}`, async () => {
        await connection.call({
          method: 'PATCH',
          path: `${pathOf(namespace, name)}/status`,
          query: { fieldManager: COMPONENT },
          contentType: 'application/merge-patch+json',
          body: { metadata: { uid, annotations: { [key]: text } } },
        });
      }),

    createEvent: ({ namespace, name, uid, reason, message, at }) =>
      call(`report an event of pod ${namespace}/${name}`, async () => {
        const when = new Date(at).toISOString();
        await connection.call({
          method: 'POST',
          path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/events`,
          body: {
            apiVersion: 'v1',
            kind: 'Event',
            metadata: { generateName: `${name.slice(0, 200)}.vl3-`, namespace },
            involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
            reason,
            message: message.slice(0, MAX_MESSAGE),
            type: 'Warning',
            count: 1,
            firstTimestamp: when,
            lastTimestamp: when,
            source: { component: COMPONENT, host: node() },
          },
        });
      }),
  };
};

const pathOf = (namespace: string, name: string): string =>
  `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
