import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Json, MalformedJson, parseStrictJson } from '../../../native-free/federation/strict-json.ts';

/** As JSON.parse would have it: numbers instead of big integers. */
const asPlain = (value: Json | undefined): unknown => {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(asPlain);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, asPlain(one)]));
  return value;
};

const read = (text: string): unknown => {
  try {
    return parseStrictJson(text);
  } catch (error) {
    if (error instanceof MalformedJson) return error.message;
    throw error;
  }
};

describe('JSON', () => {
  test('means what it means to JSON.parse', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), fc.constantFrom(0, 1, 2), (text, indent) => {
        // Names of members may be doubled by escapes; what is written anew has each once.
        const spaced = JSON.stringify(JSON.parse(text), null, indent);
        // Whole numbers past 20 digits, and -0, are the two that differ.
        fc.pre(!/(^|[^\w.])-?\d{20,}|-0(?![.\d])/.test(spaced));
        expect(asPlain(parseStrictJson(spaced))).toEqual(JSON.parse(spaced));
      }),
      { numRuns: 300 },
    );
  });

  test('whatever is changed in it is refused where JSON.parse refuses, and by nothing else than its own error', () => {
    const good = '{"a": [1, -2.5e3, true, null, "x\\n\\u0041"], "b": {"c": {}}, "": []}';
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.string({ unit: 'binary', maxLength: 1 }), (at, put) => {
        const text = good.slice(0, at) + put + good.slice(at + 1);
        let parses = true;
        try {
          JSON.parse(text);
        } catch {
          parses = false;
        }
        if (!parses) expect(() => parseStrictJson(text)).toThrow(MalformedJson);
      }),
      { numRuns: 500 },
    );
  });

  test('whole numbers keep all their digits', () => {
    expect(parseStrictJson('[18446744073709551615, -1, 0]')).toEqual([18446744073709551615n, -1n, 0n]);
  });

  test('a member that is there twice is refused, also when it is written another way or is called __proto__', () => {
    expect(read('{"keys": [], "keys": []}')).toMatch(/"keys" is there twice/);
    expect(read('{"a": 1, "\\u0061": 2}')).toMatch(/"a" is there twice/);
    expect(read('{"__proto__": 1, "__proto__": 2}')).toMatch(/"__proto__" is there twice/);
    expect(read('{"constructor": 1, "toString": 2}')).toEqual({ constructor: 1n, toString: 2n });
  });

  test.each([
    ['', /not JSON/],
    ['{"a" 1}', /not JSON/],
    ['[1,]', /not JSON/],
    ['{,}', /not JSON/],
    ['[1 2]', /not JSON/],
    ['01', /after its end/],
    ['"a\nb"', /not JSON/],
    ['"\\x"', /not JSON/],
    ['{} {}', /after its end/],
    ['\u00a0{}', /not JSON/],
    ['123456789012345678901', /too large/],
    ['['.repeat(100_000), /nested more than 16/],
    [`[${'0,'.repeat(30_000)}0]`, /more than 20000 values/],
  ])('%j is refused', (text, why) => {
    expect(read(text)).toMatch(why);
  });
});
