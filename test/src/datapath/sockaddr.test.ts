// Socket addresses and paths: the text of an address is what the address library makes of it, and a path goes there and back.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Address, formatAddress } from '../../../native-free/ipam/prefix.ts';
import { decodePath, encodePath, HeardPath, PATH_LENGTH } from '../../../src/datapath/sockaddr.ts';

/** With zeros as often as not, so that runs of them come in all lengths and places. */
const group = fc.oneof(fc.constant(0), fc.nat(0xffff));
const address = fc.oneof(
  fc.nat(2 ** 32 - 1).map((value): Address => ({ family: 4, value: BigInt(value) })),
  fc.array(group, { minLength: 8, maxLength: 8 }).map(
    (groups): Address => ({
      family: 6,
      value: groups.reduce((value, one) => (value << 16n) | BigInt(one), 0n),
    }),
  ),
);
const port = fc.nat(65535);

test('an address has the text that the library gives it', () => {
  fc.assert(
    fc.property(address, port, fc.nat(20), (one, at, offset) => {
      const endpoint = { address: formatAddress(one), port: at };
      const bytes = new Uint8Array(offset + PATH_LENGTH);
      bytes.set(encodePath(endpoint), offset);
      expect(decodePath(bytes, offset)).toEqual(endpoint);
    }),
    { numRuns: 2000 },
  );
});

test.each([
  ['::', '::'],
  ['::1', '0:0:0:0:0:0:0:1'],
  ['1::', '1:0:0:0:0:0:0:0'],
  ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ['1::2:0:0:3:4', '1:0:0:2:0:0:3:4'],
  ['1:0:0:2::3', '1:0:0:2:0:0:0:3'],
  ['::ffff:c000:201', '::ffff:192.0.2.1'],
  ['fe80::1%1', 'fe80::1%1'],
])('%s is the text of %s', (text, written) => {
  const found = decodePath(encodePath({ address: written, port: 1 }))?.address;
  expect(found?.replace('%lo', '%1')).toBe(text);
});

test('whoever was heard last is answered by the very path, and anybody else by one made anew', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(address, port), { minLength: 1, maxLength: 4 }), (sources) => {
      const heard = new HeardPath();
      const paths = sources.map(([one, at]) => {
        const text = formatAddress(one);
        const local = one.family === 4 ? '192.0.2.1' : '2001:db8::1';
        return encodePath({ address: text, port: at, local });
      });
      const endpoints = paths.map((path) => heard.decode(path, 0));
      endpoints.forEach((endpoint, i) => {
        if (endpoint === undefined) throw new Error('nobody was heard');
        expect(heard.encode(endpoint)).toEqual(paths[i]);
      });
    }),
  );
});

test('nobody is heard from an address of another kind', () => {
  expect(new HeardPath().decode(new Uint8Array(PATH_LENGTH).fill(7), 0)).toBeUndefined();
});
