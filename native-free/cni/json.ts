// JSON from outside, read with care and without libraries: how long and how deep it may be, and fields of a type. Apart
// from native-free's schemas, since the plugin starts once for every pod.

import { CNI_CODE, CniError } from './cni-error.ts';

/** A pod's annotations alone may be 256 KiB, six times that once each of their characters is escaped. */
export const MAX_INPUT_BYTES = 4 * 1024 * 1024;
const MAX_DEPTH = 64;

export type JsonObject = { readonly [key: string]: unknown };

/** Throws CniError. */
export const parseJson = (text: string): unknown => {
  mustBeShallow(text);
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CniError(CNI_CODE.notDecoded, 'the network configuration is not JSON', reason.slice(0, 200));
  }
};

/** Deeper than anything means, and as deep as could overflow whoever walks through it. */
const mustBeShallow = (text: string): void => {
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"?|[[\]{}]/gs)) {
    if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') depth -= 1;
    if (depth > MAX_DEPTH)
      throw new CniError(
        CNI_CODE.notDecoded,
        `the network configuration is nested more than ${MAX_DEPTH} levels deep`,
      );
  }
};

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const wrong = (name: string, kind: string): CniError =>
  new CniError(
    CNI_CODE.badConfiguration,
    `"${name}" in the network configuration is not ${kind}: correct it`,
  );

/** A field that may be absent; null is as good as absent. Throws CniError when it is of another type. */
export const optional = {
  text: (object: JsonObject, name: string): string | undefined => {
    const value = own(object, name);
    if (value !== undefined && typeof value !== 'string') throw wrong(name, 'a string');
    return value;
  },
  flag: (object: JsonObject, name: string): boolean | undefined => {
    const value = own(object, name);
    if (value !== undefined && typeof value !== 'boolean') throw wrong(name, 'true or false');
    return value;
  },
  number: (object: JsonObject, name: string, least: number, most: number): number | undefined => {
    const value = own(object, name);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !(value >= least && value <= most))
      throw wrong(name, `a number from ${least} to ${most}`);
    return value;
  },
  object: (object: JsonObject, name: string): JsonObject | undefined => {
    const value = own(object, name);
    if (value !== undefined && !isObject(value)) throw wrong(name, 'an object');
    return value;
  },
  objects: (object: JsonObject, name: string): readonly JsonObject[] | undefined => {
    const value = own(object, name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every(isObject)) throw wrong(name, 'a list of objects');
    return value;
  },
};

/** Undefined also for null. */
const own = (object: JsonObject, name: string): unknown =>
  Object.hasOwn(object, name) ? (object[name] ?? undefined) : undefined;
