// Objects of a small Kubernetes API server, with their history: lists, watches from a version, and what is too long ago.

import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    uid: string;
    resourceVersion: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: { nodeName?: string };
  [field: string]: unknown;
}

export interface Change {
  version: number;
  resource: string;
  before: KubeObject | undefined;
  after: KubeObject | undefined;
}

export class KubeStore {
  readonly #file: string;
  readonly #watchers = new Set<(change: Change) => void>();
  #objects = new Map<string, KubeObject>();
  #history: Change[] = [];
  #version = 1;
  /** Changes up to this one are forgotten. */
  #compacted = 0;

  /** Kept in `file`: a server that is started again has it all, as etcd would. */
  constructor(file: string) {
    this.#file = file;
    if (!existsSync(file)) return;
    const { version, objects } = JSON.parse(readFileSync(file, 'utf8'));
    this.#version = version;
    this.#compacted = version;
    this.#objects = new Map(objects);
  }

  get version(): number {
    return this.#version;
  }

  list(resource: string): KubeObject[] {
    return [...this.#objects]
      .filter(([key]) => key.startsWith(`${resource} `))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => object);
  }

  get(resource: string, namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(`${resource} ${namespace}/${name}`);
  }

  create(resource: string, object: KubeObject): KubeObject {
    const metadata = { ...object.metadata, uid: randomUUID() };
    return this.#change(resource, undefined, { ...object, metadata });
  }

  replace(resource: string, before: KubeObject, after: KubeObject): KubeObject {
    // As etcd behind an API server: what changes nothing is no version.
    if (JSON.stringify(before) === JSON.stringify(after)) return before;
    return this.#change(resource, before, after);
  }

  delete(resource: string, before: KubeObject): void {
    this.#change(resource, before, undefined);
  }

  /** What happened since; undefined: that is too long ago to tell. */
  since(version: number, resource: string): Change[] | undefined {
    if (version < this.#compacted) return undefined;
    return this.#history.filter((one) => one.version > version && one.resource === resource);
  }

  compact(): void {
    this.#compacted = ++this.#version;
    this.#history = [];
  }

  watch(watcher: (change: Change) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #change(resource: string, before: KubeObject | undefined, given: KubeObject | undefined): KubeObject {
    this.#version += 1;
    const version = this.#version;
    const versioned = (one: KubeObject): KubeObject => ({
      ...one,
      metadata: { ...one.metadata, resourceVersion: String(version) },
    });
    const after = given && versioned(given);
    const object = after ?? (before && versioned(before));
    if (object === undefined) throw new Error('nothing changes');
    const { namespace = '', name } = object.metadata;
    const key = `${resource} ${namespace}/${name}`;
    if (after === undefined) this.#objects.delete(key);
    else this.#objects.set(key, after);
    const change = { version, resource, before: after === undefined ? object : before, after };
    this.#history.push(change);
    writeFileSync(this.#file, JSON.stringify({ version, objects: [...this.#objects] }));
    for (const watcher of this.#watchers) watcher(change);
    return object;
  }
}

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const isObject = typeof target === 'object' && target !== null && !Array.isArray(target);
  const merged: Record<string, unknown> = isObject ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}

/** A strategic merge patch, as far as it goes: lists of objects are merged by their names, and none of them goes. */
export function mergeByName(target: unknown, patch: unknown): unknown {
  if (Array.isArray(target) && Array.isArray(patch)) {
    const list: { name: string }[] = [...target];
    for (const one of patch) {
      const at = list.findIndex(({ name }) => name === one.name);
      if (at < 0) list.push(one);
      else list[at] = mergeByName(list[at], one) as { name: string };
    }
    return list;
  }
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const merged: Record<string, unknown> = { ...(target as Record<string, unknown>) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergeByName(merged[key], value);
  }
  return merged;
}
