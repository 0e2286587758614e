// The labels of a pod's attachment: its own, those its annotation gives for this network, and its namespace.

/** Which namespace a workload is of, as container runtimes label it. */
export const NAMESPACE_LABEL = 'io.kubernetes.pod.namespace';

/** As many as the registry takes of one attachment. */
const MAX_LABELS = 64;

type Labels = Readonly<Record<string, string>>;

/** The annotation's beat the pod's; of too many, those of the pod that come last by name are left out. */
export const podLabels = (pod: Labels, asked: Labels, namespace: string): Record<string, string> => {
  const labels: Record<string, string> = { ...asked, [NAMESPACE_LABEL]: namespace };
  let room = MAX_LABELS - Object.keys(labels).length;
  for (const key of Object.keys(pod).sort()) {
    if (Object.hasOwn(labels, key)) continue;
    if (room-- <= 0) break;
    labels[key] = pod[key] ?? '';
  }
  return labels;
};

export const sameLabels = (one: Labels, other: Labels): boolean => {
  const keys = Object.keys(one);
  return (
    keys.length === Object.keys(other).length &&
    keys.every((key) => Object.hasOwn(other, key) && one[key] === other[key])
  );
};
