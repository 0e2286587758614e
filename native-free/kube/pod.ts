// A pod and a namespace as the informer sees them: of what the API server says (core/v1), only what decides about networks.

import { z } from 'zod';
import { ANNOTATION_KEYS } from './asked.ts';
import { STATUS_KEY } from './network-status.ts';

export interface Pod {
  /** As container runtimes know it: a static pod's is not that of its object. */
  readonly uid: string;
  readonly objectUid: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Only those about networks. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly isHostNetwork: boolean;
  /** Succeeded or Failed: its containers do not come back. */
  readonly hasEnded: boolean;
}

export interface Namespace {
  readonly name: string;
  /** Only those that ask for networks. */
  readonly annotations: Readonly<Record<string, string>>;
}

/** The kubelet's own name for a pod that it has from a file: the API server shows a mirror of it under another. */
const STATIC_UID = 'kubernetes.io/config.hash';

const strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});
const metadata = z.object({ uid: z.string().min(1), name: z.string().min(1), annotations: strings });
const podSchema = z.object({
  metadata: metadata.extend({ namespace: z.string().min(1), labels: strings }),
  spec: z.object({ hostNetwork: z.boolean().nullish() }).nullish(),
  status: z.object({ phase: z.string().nullish() }).nullish(),
});
const namespaceSchema = z.object({ metadata: metadata.omit({ uid: true }) });

/** Undefined: it is no pod. */
export const readPod = (object: unknown): Pod | undefined => {
  const { data } = podSchema.safeParse(object);
  if (data === undefined) return undefined;
  const { metadata: meta, spec, status } = data;
  return {
    uid: meta.annotations[STATIC_UID] || meta.uid,
    objectUid: meta.uid,
    namespace: meta.namespace,
    name: meta.name,
    labels: meta.labels,
    annotations: only(meta.annotations, [...ANNOTATION_KEYS, STATUS_KEY]),
    isHostNetwork: spec?.hostNetwork === true,
    hasEnded: status?.phase === 'Succeeded' || status?.phase === 'Failed',
  };
};

/** Undefined: it is no namespace. */
export const readNamespace = (object: unknown): Namespace | undefined => {
  const { data } = namespaceSchema.safeParse(object);
  if (data === undefined) return undefined;
  return { name: data.metadata.name, annotations: only(data.metadata.annotations, ANNOTATION_KEYS) };
};

const only = (all: Readonly<Record<string, string>>, keys: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    keys.flatMap((key) => {
      const text = Object.hasOwn(all, key) ? all[key] : undefined;
      return text === undefined ? [] : [[key, text]];
    }),
  );
