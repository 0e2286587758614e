import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import {
  type Address,
  addressBytes,
  addressFromBytes,
  type Family,
  familyBits,
  formatAddress,
  formatPrefix,
  hostPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixSize,
} from '../../../native-free/ipam/prefix.ts';

const family = fc.constantFrom<Family>(4, 6);
const address: fc.Arbitrary<Address> = family.chain((family) =>
  fc
    .oneof(
      fc.bigInt({ min: 0n, max: (1n << BigInt(familyBits(family))) - 1n }),
      // Many zeros, at either end and in the middle.
      fc
        .tuple(fc.nat(0xffff), fc.nat(7))
        .map(([word, at]) => BigInt(word) << BigInt((at * 16) % familyBits(family))),
      fc.nat(0xffffffff).map((low) => (family === 4 ? BigInt(low) : (0xffffn << 32n) | BigInt(low))),
    )
    .map((value) => ({ family, value: BigInt.asUintN(familyBits(family), value) })),
);
const prefix: fc.Arbitrary<Prefix> = address.chain(({ family, value }) =>
  fc.integer({ min: 0, max: familyBits(family) }).map((length) => {
    const host = BigInt(familyBits(family) - length);
    return { family, value: (value >> host) << host, length };
  }),
);

/** The slow twin: bits as text. */
const bits = ({ family, value }: Address): string => value.toString(2).padStart(familyBits(family), '0');

describe('an address', () => {
  it('survives its text and its bytes', () => {
    fc.assert(
      fc.property(address, (one) => {
        expect(parseAddress(formatAddress(one))).toEqual(one);
        expect(addressFromBytes(addressBytes(one))).toEqual(one);
        expect(addressBytes(one)).toHaveLength(familyBits(one.family) / 8);
        expect(isIP(formatAddress(one))).toBe(one.family);
      }),
    );
  });

  it('is written as RFC 5952 asks', () => {
    const written = (text: string) => formatAddress(parseAddress(text));
    expect(written('FD00:0:0:0:0:0:0:1')).toBe('fd00::1');
    expect(written('2001:db8:0:0:1:0:0:1')).toBe('2001:db8::1:0:0:1');
    expect(written('2001:db8:0:1:1:1:1:1')).toBe('2001:db8:0:1:1:1:1:1');
    expect(written('0:0:0:0:0:0:0:0')).toBe('::');
    expect(written('10.1.2.3')).toBe('10.1.2.3');
  });

  it('is refused in any loose form', () => {
    for (const text of [
      '',
      ' 10.0.0.1',
      '10.0.0',
      '10.0.0.256',
      '010.0.0.1',
      '10.0.0.1/32',
      '0x0a.0.0.1',
      '10.0.0.1.',
      'fe80::1%eth0',
      '::1/128',
      ':::',
      'fd00::1::2',
      'fd00:::1',
      '12345::',
      '[::1]',
      'example.org',
      '１0.0.0.1',
    ]) {
      expect(() => parseAddress(text), text).toThrow(Vl3Error);
    }
  });

  it('is refused with an error of the closed kind, whatever the text', () => {
    const characters = fc.constantFrom(...'0123456789abcf:./%[] x'.split(''));
    fc.assert(
      fc.property(fc.string({ unit: characters, maxLength: 45 }), (text) => {
        try {
          const parsed = parseAddress(text);
          expect(isIP(text)).toBe(parsed.family);
          expect(parseAddress(formatAddress(parsed))).toEqual(parsed);
        } catch (error) {
          expect(error).toBeInstanceOf(Vl3Error);
          expect(isIP(text) === 0 || text.includes('%')).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a prefix', () => {
  it('survives its text', () => {
    fc.assert(
      fc.property(prefix, (one) => {
        expect(parsePrefix(formatPrefix(one))).toEqual(one);
      }),
    );
  });

  it('has one text only: no host bits, no leading zero in its length', () => {
    expect(() => parsePrefix('10.1.2.3/16')).toThrow('did you mean 10.1.0.0/16?');
    expect(() => parsePrefix('fd00::1/64')).toThrow('did you mean fd00::/64?');
    for (const text of [
      '10.0.0.0',
      '10.0.0.0/',
      '10.0.0.0/33',
      'fd00::/129',
      '10.0.0.0/08',
      '10.0.0.0/-1',
      '/8',
    ])
      expect(() => parsePrefix(text), text).toThrow(Vl3Error);
    expect(parsePrefix('0.0.0.0/0')).toEqual({ family: 4, value: 0n, length: 0 });
  });

  it('contains, covers and overlaps as its bits say', () => {
    fc.assert(
      fc.property(prefix, prefix, address, (a, b, one) => {
        const starts = (outer: Prefix, inner: string) => inner.startsWith(bits(outer).slice(0, outer.length));
        expect(prefixContains(a, one)).toBe(a.family === one.family && starts(a, bits(one)));
        const covers = (outer: Prefix, inner: Prefix) =>
          outer.family === inner.family && outer.length <= inner.length && starts(outer, bits(inner));
        expect(prefixCovers(a, b)).toBe(covers(a, b));
        expect(prefixesOverlap(a, b)).toBe(covers(a, b) || covers(b, a));
      }),
    );
  });

  it('of one host holds that host only', () => {
    fc.assert(
      fc.property(address, (one) => {
        expect(prefixContains(hostPrefix(one), one)).toBe(true);
        expect(prefixSize(hostPrefix(one))).toBe(1n);
      }),
    );
    expect(prefixSize(parsePrefix('10.0.0.0/24'))).toBe(256n);
  });
});
