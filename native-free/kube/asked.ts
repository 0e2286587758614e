// Which annotation decides about a pod: its own or its namespace's, vl3's or Network Service Mesh's. Nothing is parsed
// here, and nothing imported: the CNI plugin starts with it for every pod.

/** In this order: vl3's own beats the other beside it, also when it is empty. */
export const ANNOTATION_KEYS = ['vl3.io/networks', 'networkservicemesh.io'] as const;
export type AnnotationKey = (typeof ANNOTATION_KEYS)[number];

export interface Asked {
  /** Whose annotation it is. */
  readonly by: 'pod' | 'namespace';
  readonly key: AnnotationKey;
  readonly text: string;
}

type Annotations = Readonly<Record<string, unknown>>;

/** Undefined: neither asks. An empty text asks for nothing, and says so. */
export const askedOf = (pod: Annotations, namespace: Annotations | undefined): Asked | undefined =>
  read('pod', pod) ?? (namespace === undefined ? undefined : read('namespace', namespace));

/** Whether it asks for any network at all. */
export const asksForSome = (asked: Asked | undefined): asked is Asked =>
  asked !== undefined && asked.text.trim() !== '';

const read = (by: Asked['by'], annotations: Annotations): Asked | undefined => {
  for (const key of ANNOTATION_KEYS) {
    const text = Object.hasOwn(annotations, key) ? annotations[key] : undefined;
    if (typeof text === 'string') return { by, key, text };
  }
  return undefined;
};
