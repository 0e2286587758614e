// A pod and a namespace as the informer sees them: of what the API server says (core/v1), only what decides about networks.

import { z } from 'zod';
import { LABEL_KEY, LABEL_VALUE } from '../registry/model.ts';
import { MAX_ANNOTATION_LENGTH } from './annotation.ts';
import { ANNOTATION_KEYS } from './asked.ts';
import { STATUS_KEY } from './network-status.ts';

export interface Pod {
  /** As container runtimes know it: a static pod's is not that of its object. */
  readonly uid: string;
  readonly objectUid: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Absent: the API server does not say. */
  readonly serviceAccount?: string | undefined;
  /** Only those about networks. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly isHostNetwork: boolean;
  /** Succeeded or Failed: its containers do not come back. */
  readonly hasEnded: boolean;
  /** It is being deleted: it is about to end. */
  readonly isEnding: boolean;
}

export interface Namespace {
  readonly name: string;
  /** Only those that ask for networks. */
  readonly annotations: Readonly<Record<string, string>>;
}

/**
 * A pod that the kubelet has from a file: the API server shows a mirror of it, and in an annotation the uid that container
 * runtimes know it by. Annotations are anybody's: one that looks like the uid of another pod's object must not count.
 */
const MIRROR = 'kubernetes.io/config.mirror';
const STATIC_UID = /^[0-9a-f]{32}$/;

/** As long as what is written down of them may be. */
const UID = /^[A-Za-z0-9-]{1,64}$/;
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

const strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});
const owners = z.array(z.object({ kind: z.string() })).nullish();
const metadata = z.object({ name: z.string().regex(NAME), annotations: strings });
const podSchema = z.object({
  metadata: metadata.extend({
    uid: z.string().regex(UID),
    namespace: z.string().regex(NAMESPACE),
    labels: strings,
    ownerReferences: owners,
    /** A date, as text or as the client understood it. */
    deletionTimestamp: z.unknown().optional(),
  }),
  spec: z
    .object({ hostNetwork: z.boolean().nullish(), serviceAccountName: z.unknown().optional() })
    .nullish(),
  status: z.object({ phase: z.string().nullish() }).nullish(),
});
const namespaceSchema = z.object({ metadata });

/** Undefined: it is no pod. */
export const readPod = (object: unknown): Pod | undefined => {
  const { data } = podSchema.safeParse(object);
  if (data === undefined) return undefined;
  const { metadata: meta, spec, status } = data;
  const account = spec?.serviceAccountName;
  return {
    uid: staticUid(meta) ?? meta.uid,
    objectUid: meta.uid,
    namespace: meta.namespace,
    name: meta.name,
    labels: Object.fromEntries(
      Object.entries(meta.labels).filter(([key, value]) => LABEL_KEY.test(key) && LABEL_VALUE.test(value)),
    ),
    annotations: only(meta.annotations, [...ANNOTATION_KEYS, STATUS_KEY]),
    ...(typeof account === 'string' && NAME.test(account) && { serviceAccount: account }),
    isHostNetwork: spec?.hostNetwork === true,
    hasEnded: status?.phase === 'Succeeded' || status?.phase === 'Failed',
    isEnding: meta.deletionTimestamp != null,
  };
};

/** Undefined: it is no namespace. */
export const readNamespace = (object: unknown): Namespace | undefined => {
  const { data } = namespaceSchema.safeParse(object);
  if (data === undefined) return undefined;
  return { name: data.metadata.name, annotations: only(data.metadata.annotations, ANNOTATION_KEYS) };
};

const staticUid = ({
  annotations,
  ownerReferences,
}: z.infer<typeof podSchema>['metadata']): string | undefined => {
  const uid = annotations[MIRROR] ?? '';
  const isOfNode = ownerReferences?.some(({ kind }) => kind === 'Node') === true;
  return isOfNode && STATIC_UID.test(uid) ? uid : undefined;
};

const only = (all: Readonly<Record<string, string>>, keys: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    keys.flatMap((key) => {
      const text = Object.hasOwn(all, key) ? all[key] : undefined;
      if (text === undefined) return [];
      // One that is too long stays so, and does not take its 256 KiB of memory.
      const isAsked = key !== STATUS_KEY && text.length > MAX_ANNOTATION_LENGTH;
      return [[key, isAsked ? text.slice(0, MAX_ANNOTATION_LENGTH + 1) : text]];
    }),
  );
