import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import type { Moment } from '../../../native-free/moment.ts';
import {
  encodeRecord,
  type NodeRecord,
  SIGNATURE_BYTES,
  type SignedRecord,
  type VerifyRecord,
} from '../../../native-free/registry/record.ts';
import { RecordBook } from '../../../src/agent/record-book.ts';
import { AgentState } from '../../../src/agent/state.ts';

const logger = pino({ level: 'silent' });
const options = {
  key: 'red',
  network: 'red',
  networkUid: 'u1',
  home: 'test.example',
  node: 'self',
  pools: [parsePrefix('10.0.0.0/16')],
};
const NOW = 1_000_000;
const boot = (wall: number, bootId = 'first'): Moment => ({ bootId, boot: wall, wall });
const now = boot(NOW);

let directory: string;
let state: AgentState;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-book-'));
  state = new AgentState(directory);
});
afterEach(() => {
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

/** A stand-in for certificates: the chain's first byte names the signer, and the signature repeats it. */
const NAMES = ['nobody', 'self', 'a', 'b'];
const verify: VerifyRecord = (chain, _input, signature) => {
  const signer = chain[0]?.[0] ?? 0;
  if (signer === 0 || signature[0] !== signer) return undefined;
  return { trustDomain: 'test.example', node: NAMES[signer] ?? '', notAfter: Number.MAX_SAFE_INTEGER };
};

const record = (node: string, change: Partial<NodeRecord> = {}): SignedRecord => {
  const signer = NAMES.indexOf(node);
  return {
    record: encodeRecord({
      trustDomain: 'test.example',
      network: 'red',
      networkUid: 'u1',
      node,
      publicKey: Buffer.alloc(32, signer).toString('base64'),
      prefixes: [{ prefix: `10.0.${signer}.0/24`, leasedAt: 1 }],
      endpoints: [],
      sequence: 1,
      notBefore: 0,
      notAfter: NOW + 1000,
      ...change,
    }),
    signature: new Uint8Array(SIGNATURE_BYTES).fill(signer),
    certificateChain: [Uint8Array.of(signer)],
  };
};

const open = (at = now): RecordBook =>
  new RecordBook(options, { state, verifierOf: () => verify, logger }, at);
const nodes = (book: RecordBook, at = now): string[] => book.valid(at).map(({ node }) => node);

test('a verified record is kept, also over a restart', () => {
  expect(open().accept('a', record('a'), now)).toBe(true);
  expect(nodes(open())).toEqual(['a']);
});

test('a record whose signature does not hold is refused and the reason can be read', () => {
  const book = open();
  expect(book.accept('a', { ...record('a'), signature: new Uint8Array(SIGNATURE_BYTES) }, now)).toBe(false);
  expect(nodes(book)).toEqual([]);
  expect(book.refusals.get('a')).toMatch(/does not verify/);
});

test.each(['0.0.0.0/0', '10.0.0.0/8', '10.1.0.0/24', 'fd00::/64'])(
  'a record that claims %s, outside the pools, is refused also when it is signed, and after a restart',
  (prefix) => {
    const stray = record('a', { prefixes: [{ prefix, leasedAt: 1 }] });
    const book = open();
    expect(book.accept('a', stray, now)).toBe(false);
    expect(book.refusals.get('a')).toContain(prefix);
    const wide = new RecordBook(
      { ...options, pools: [parsePrefix(prefix)] },
      { state, verifierOf: () => verify, logger },
      now,
    );
    expect(wide.accept('a', stray, now)).toBe(true);
    expect(nodes(open())).toEqual([]);
  },
);

test('a record that the registry gives under another name is refused', () => {
  const book = open();
  expect(book.accept('b', record('a'), now)).toBe(false);
  expect(book.refusals.get('b')).toMatch(/a record of "a" for "b"/);
});

test('an older record never replaces a newer one, and the same one changes nothing', () => {
  const book = open();
  book.accept('a', record('a', { sequence: 5 }), now);
  expect(book.accept('a', record('a', { sequence: 4, prefixes: [] }), now)).toBe(false);
  expect(book.accept('a', record('a', { sequence: 5 }), now)).toBe(false);
  expect(book.accept('a', record('a', { sequence: 6 }), now)).toBe(true);
});

test("this node's own record is no peer's", () => {
  const book = open();
  expect(book.accept('self', record('self'), now)).toBe(false);
  expect(nodes(book)).toEqual([]);
});

test('a tombstone takes the record it names, not a newer one', () => {
  const book = open();
  book.accept('a', record('a', { sequence: 5 }), now);
  expect(book.bury('a', 4)).toBe(false);
  expect(nodes(book)).toEqual(['a']);
  expect(book.bury('a', 5)).toBe(true);
  expect(nodes(book)).toEqual([]);
  expect(nodes(open())).toEqual([]);
});

test('a record ends with its validity', () => {
  const book = open();
  book.accept('a', record('a'), now);
  expect(nodes(book, boot(NOW + 999))).toEqual(['a']);
  expect(nodes(book, boot(NOW + 1000))).toEqual([]);
});

test('a wrong clock at a boot costs nothing that a right one at the next does not bring back', () => {
  open().accept('a', record('a'), now);
  expect(nodes(open(boot(NOW + 5000, 'second')), boot(NOW + 5000, 'second'))).toEqual([]);
  expect(nodes(open(boot(NOW, 'third')), boot(NOW, 'third'))).toEqual(['a']);
});

test('leaving strikes out the records of this network only', () => {
  const green = new RecordBook(
    { ...options, key: 'green', network: 'green' },
    { state, verifierOf: () => verify, logger },
    now,
  );
  green.accept('a', record('a', { network: 'green' }), now);
  const book = open();
  book.accept('b', record('b'), now);
  book.clear();
  expect(nodes(open())).toEqual([]);
  expect(
    nodes(
      new RecordBook(
        { ...options, key: 'green', network: 'green' },
        { state, verifierOf: () => verify, logger },
        now,
      ),
    ),
  ).toEqual(['a']);
});
