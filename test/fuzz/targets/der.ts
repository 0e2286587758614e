// DER, which certificates are written in.

import {
  type DerValue,
  MalformedDer,
  readNamedBits,
  readObjectIdentifier,
  readOne,
  readValues,
} from '../../../src/identity/der.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const fuzzDer = (source: Source): void => {
  const bytes = source.chance(200) ? someDer(source, 0) : source.some(120);
  const input = source.mutated(bytes, 3);
  const malformed = <T>(read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      if (error instanceof MalformedDer) return undefined;
      throw error;
    }
  };
  const values: DerValue[] | undefined = malformed(() => readValues(input));
  if (values !== undefined) {
    mustEqual(
      hex(Buffer.concat(values.map((value) => value.encoded))),
      hex(input),
      'the values one after another',
    );
    for (const { tag, encoded, contents } of values) {
      mustEqual(malformed(() => readOne(encoded, tag))?.contents, contents, 'the value alone');
      mustEqual(hex(encode(tag, contents)), hex(encoded), 'its one encoding');
    }
  }
  const oid = malformed(() => readObjectIdentifier(input));
  if (oid !== undefined) must(/^[0-2](\.\d+)+$/.test(oid), () => `"${oid}" is no object identifier`);
  const bits = malformed(() => readNamedBits(input));
  if (bits !== undefined)
    must(
      [...bits].every((bit) => bit >= 0 && bit < input.length * 8),
      'a bit past the end',
    );
};

const encode = (tag: number, contents: Uint8Array): Uint8Array => {
  const { length } = contents;
  const header =
    length < 0x80
      ? [length]
      : length < 0x100
        ? [0x81, length]
        : length < 0x10000
          ? [0x82, length >> 8, length & 255]
          : [0x83, length >> 16, (length >> 8) & 255, length & 255];
  return Uint8Array.from([tag, ...header, ...contents]);
};

const someDer = (source: Source, depth: number): Uint8Array => {
  if (depth > 3 || source.chance(100))
    return encode(source.pick([1, 2, 3, 4, 6, 0x86]), source.some(source.chance(20) ? 300 : 12));
  const parts = Array.from({ length: source.between(0, 4) }, () => someDer(source, depth + 1));
  return encode(source.pick([0x30, 0xa3]), new Uint8Array(Buffer.concat(parts)));
};

export const derTarget = pure('der', 'DER has one encoding and is never read past its end', 300, fuzzDer);
