// A pod's sandbox as its container runtime tells of it (CRI, runtime.v1): which one counts, and where its network
// namespace is. The latter is in no field: runtimes tell it in JSON of their own, when asked to be verbose.

import { z } from 'zod';

export interface SandboxFacts {
  readonly id: string;
  readonly uid: string;
  /** Of the pod. */
  readonly namespace: string;
  readonly name: string;
  readonly isReady: boolean;
  readonly createdAt: bigint;
}

/** By pod: of a pod that was restarted there are several, and the youngest ready one is it. */
export const currentSandboxes = (all: Iterable<SandboxFacts>): Map<string, SandboxFacts> => {
  const current = new Map<string, SandboxFacts>();
  for (const one of all) {
    if (!one.isReady || one.uid === '') continue;
    const other = current.get(one.uid);
    if (other === undefined || one.createdAt > other.createdAt) current.set(one.uid, one);
  }
  return current;
};

/** containerd's and CRI-O's "info". */
const infoSchema = z.object({
  pid: z
    .number()
    .int()
    .positive()
    .max(2 ** 31)
    .optional()
    .catch(undefined),
  runtimeSpec: z
    .object({
      linux: z.object({
        namespaces: z.array(z.object({ type: z.string(), path: z.string().optional() })),
      }),
    })
    .optional()
    .catch(undefined),
});

/** Paths at which the sandbox's network namespace may be found, the best first; none: it has none of its own, or tells none. */
export const networkNamespacePaths = (info: string): string[] => {
  let json: unknown;
  try {
    json = JSON.parse(info);
  } catch {
    return [];
  }
  const { data } = infoSchema.safeParse(json);
  if (data === undefined) return [];
  const network = data.runtimeSpec?.linux.namespaces.find(({ type }) => type === 'network');
  // Whoever lists namespaces and not this one shares the host's.
  if (data.runtimeSpec !== undefined && network === undefined) return [];
  const named = network?.path ?? '';
  const isPath = named.startsWith('/') && named.length <= 4096 && !named.includes('\0');
  return [
    ...(isPath ? [named] : []),
    // A container of the agent's may not have the old name of the directory.
    ...(isPath && named.startsWith('/var/run/') ? [named.slice('/var'.length)] : []),
    ...(data.pid === undefined ? [] : [`/proc/${data.pid}/ns/net`]),
  ];
};
