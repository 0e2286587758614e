// The file in which an agent keeps what its cluster's namespaces ask for, so that the CNI plugin knows it without asking:
// only namespaces that have an annotation of vl3 are in it. It is on a tmpfs: after a boot it is absent until the agent
// has seen all namespaces, and absent means that nothing is known.
//
//   { "version": 1, "namespaces": { "team-a": { "vl3.io/networks": "red" } } }

import { ANNOTATION_KEYS } from '../kube/asked.ts';
import { isObject, type JsonObject } from './json.ts';

/** What it is called, beside the agent's socket. */
export const NAMESPACE_DEFAULTS = 'namespaces.json';

const VERSION = 1;

/** By namespace, its annotations; others than vl3's are left out. */
export type NamespaceDefaults = ReadonlyMap<string, JsonObject>;

export const formatNamespaceDefaults = (defaults: NamespaceDefaults): string => {
  const namespaces = [...defaults]
    .map(([namespace, annotations]): [string, JsonObject] => [
      namespace,
      Object.fromEntries(
        ANNOTATION_KEYS.flatMap((key) => (key in annotations ? [[key, annotations[key]]] : [])),
      ),
    ])
    .filter(([, annotations]) => Object.keys(annotations).length > 0)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `${JSON.stringify({ version: VERSION, namespaces: Object.fromEntries(namespaces) })}\n`;
};

/** A namespace's annotations, {} when it has none; undefined when the text says nothing, as of another version. */
export const defaultsOf = (text: string, namespace: string): JsonObject | undefined => {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(file) || file['version'] !== VERSION) return undefined;
  const { namespaces } = file;
  if (!isObject(namespaces)) return undefined;
  const found = Object.hasOwn(namespaces, namespace) ? namespaces[namespace] : {};
  return isObject(found) ? found : undefined;
};
