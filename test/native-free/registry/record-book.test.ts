// What a record book remembers of its own node. The rest of it is tested with the agent's disk, in
// test/src/agent/record-book.test.ts.

import { expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { RecordBook } from '../../../native-free/registry/record-book.ts';
import { SimulatedSigner } from '../../../native-free/simulator/signer.ts';

const NOW = 1_900_000_000_000;
const signer = new SimulatedSigner(new Uint8Array(32));
const identity = signer.issue('one', NOW - 1000, NOW + 1000);

const open = () =>
  new RecordBook(
    { network: 'red', networkUid: 'uid', pools: [parsePrefix('10.60.0.0/16')], node: 'one' },
    {
      saved: { list: () => [], put: () => expect.fail('saved its own record'), delete: () => undefined },
      verify: signer.verify,
      report: () => undefined,
    },
    NOW,
  );

const signed = (sequence: number) =>
  signer.sign(identity, {
    network: 'red',
    networkUid: 'uid',
    publicKey: `${'A'.repeat(43)}=`,
    prefixes: [],
    endpoints: [],
    sequence,
  });

test("the sequence of this node's own record and tombstone is remembered, the highest of all", () => {
  const book = open();
  expect(book.ownSequence).toBe(0);
  book.accept('one', signed(7), NOW);
  expect(book.ownSequence).toBe(7);
  book.bury('one', 9);
  book.bury('one', 8);
  expect(book.ownSequence).toBe(9);
  expect(book.valid(NOW)).toEqual([]);
});

test("a forged record of this node says nothing about its sequence, nor does another's", () => {
  const book = open();
  const forged = signed(7);
  forged.signature[0] = (forged.signature[0] ?? 0) ^ 1;
  book.accept('one', forged, NOW);
  book.accept('two', signed(7), NOW);
  book.bury('two', 9);
  expect(book.ownSequence).toBe(0);
});
