// What Kubernetes says its objects look like, twice: its schemas tell what is missing or of a wrong type, its client what a
// field is called, for no schema refuses one that there is not.

import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as client from '@kubernetes/client-node';
import { z } from 'zod';
import { ROOT } from './chart.ts';

const MODELS = resolve(ROOT, 'deploy/setup/tools/node_modules/kubernetes-models');
const attribute = z.object({ baseName: z.string(), type: z.string() });

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What is wrong with an object, one line each. */
export const problemsOf = async (object: client.KubernetesObject): Promise<string[]> => {
  const { apiVersion = '', kind = '', metadata } = object;
  const name = `${kind} ${metadata?.name}`;
  const module: unknown = await import(pathToFileURL(resolve(MODELS, apiVersion, `${kind}.js`)).href);
  const Model: unknown = isRecord(module) ? module[kind] : undefined;
  if (typeof Model !== 'function') return [`${name}: there is no ${kind} in ${apiVersion}`];
  const model: unknown = Reflect.construct(Model, [object]);
  const wrong: string[] = [];
  try {
    if (isRecord(model) && typeof model['validate'] === 'function') model['validate']();
    else wrong.push(`${name}: nothing validates it`);
  } catch (error) {
    wrong.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return [...wrong, ...unknownIn(object, `V1${kind}`).map((path) => `${name}: there is no field ${path}`)];
};

/** The paths in a value that a type of the client's does not have, e.g. "V1Pod", "Array<V1Container>". */
const unknownIn = (value: unknown, type: string, path = ''): string[] => {
  const [, item] = /^Array<(.+)>$/.exec(type) ?? [];
  if (item !== undefined)
    return Array.isArray(value) ? value.flatMap((one, i) => unknownIn(one, item, `${path}[${i}]`)) : [path];
  const model: unknown = Reflect.get(client, type);
  // A number, a text, a map of those.
  if (typeof model !== 'function' || !('getAttributeTypeMap' in model) || !isRecord(value)) return [];
  const read = model.getAttributeTypeMap;
  const attributes = typeof read === 'function' ? attribute.array().parse(read.call(model)) : [];
  return Object.entries(value).flatMap(([key, inner]) => {
    const known = attributes.find(({ baseName }) => baseName === key);
    return known === undefined ? [`${path}.${key}`] : unknownIn(inner, known.type, `${path}.${key}`);
  });
};
