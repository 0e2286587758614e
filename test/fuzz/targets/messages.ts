// Messages of the registry's API: of any shape that the schema has, with values that mean something or break something.

import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import type { Source } from '../source.ts';

export const NODES = ['n1', 'n2', 'n3'] as const;
export const WORDS = [
  'red',
  'blue',
  'n1',
  'n2',
  'n3',
  '10.60.0.0/16',
  '10.60.1.0/24',
  '10.60.0.0/24',
  'fd00:60::/48',
  'fd00:60::/112',
  '10.60.1.7',
  'fd00:60::1:2',
  'r1',
  '',
  'a/b',
  '../x',
];

/** JSON of a message of this shape, with values that mean something or break something. */
export const someValues = (
  source: Source,
  schema: DescMessage,
  depth: number,
  request: Uint8Array,
): unknown => {
  if (schema.typeName === 'google.protobuf.Timestamp')
    return source.pick(['2026-01-01T00:00:00Z', '0001-01-01T00:00:00Z', '9999-12-31T23:59:59Z', 'x']);
  if (schema.typeName === 'google.protobuf.Duration')
    return source.pick(['60s', '0s', '-1s', '315576000000s', '1e9s', '0.5s']);
  const out: Record<string, unknown> = {};
  for (const one of schema.fields) {
    if (source.chance(40) || depth > 3) continue;
    const single = (): unknown => someValue(source, one, depth, request);
    if (one.fieldKind === 'list')
      out[one.jsonName] = Array.from({ length: source.pick([0, 1, 1, 2, 5]) }, single);
    else if (one.fieldKind === 'map')
      out[one.jsonName] = Object.fromEntries(
        Array.from({ length: source.between(0, 3) }, () => [
          source.textLike(WORDS, 70),
          source.textLike(WORDS, 70),
        ]),
      );
    else out[one.jsonName] = single();
  }
  return out;
};

const someValue = (source: Source, one: DescField, depth: number, request: Uint8Array): unknown => {
  const { message, scalar } = one;
  if (message !== undefined && one.fieldKind !== 'map')
    return someValues(source, message, depth + 1, request);
  if (one.fieldKind === 'enum' || one.enum !== undefined) return source.between(-1, 5);
  if (scalar === ScalarType.STRING) {
    if (/^(network|name)$/.test(one.name) && source.chance(200))
      return source.pick(['red', 'red', 'red', 'blue', 'n1']);
    if (/^node$/.test(one.name) && source.chance(200)) return source.pick(NODES);
    return source.textLike(WORDS, 300);
  }
  if (scalar === ScalarType.BOOL) return source.chance(128);
  if (scalar === ScalarType.BYTES) {
    const bytes = source.chance(128) ? source.mutated(request, 2) : source.some(100);
    return Buffer.from(bytes).toString('base64');
  }
  if (source.chance(200)) return source.pick([4, 6, 24, 28, 112, 120, 0, 1, 1280, 1420, 65_455, 4294967295]);
  return source.chance(128) ? source.number() : String(source.number());
};
