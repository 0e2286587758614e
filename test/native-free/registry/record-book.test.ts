// What a record book remembers of its own node, and how long it believes others under clocks that jump. The rest of it
// is tested with the agent's disk, in test/src/agent/record-book.test.ts.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import type { Moment } from '../../../native-free/moment.ts';
import type { SignedRecord } from '../../../native-free/registry/record.ts';
import { RecordBook, type SavedRecord } from '../../../native-free/registry/record-book.ts';
import { SimulatedSigner, TRUST_DOMAIN } from '../../../native-free/simulator/signer.ts';

const WALL = 1_900_000_000_000;
const DAY = 24 * 3_600_000;
const NOW: Moment = { bootId: 'first', boot: 5000, wall: WALL };
const signer = new SimulatedSigner(new Uint8Array(32));
/** What a CA dates its certificates back. */
const BACKDATE_MS = 300_000;
const issue = (node: string, notBefore: number, notAfter: number) =>
  signer.issue(node, notBefore + BACKDATE_MS, notAfter - notBefore - BACKDATE_MS);
const identity = issue('one', WALL - 1000, WALL + 1000);

const open = () =>
  new RecordBook(
    {
      network: 'red',
      networkUid: 'uid',
      home: TRUST_DOMAIN,
      pools: [parsePrefix('10.60.0.0/16')],
      node: 'one',
    },
    {
      saved: { list: () => [], put: () => expect.fail('saved its own record'), delete: () => undefined },
      verifierOf: () => signer.verifierOf(() => signer.authorities),
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

// --- under clocks that jump

const other = issue('two', WALL - 1000, WALL + 7 * DAY);

const recordOf = (sequence: number, from = other): SignedRecord =>
  signer.sign(from, {
    network: 'red',
    networkUid: 'uid',
    publicKey: `${'B'.repeat(42)}A=`,
    prefixes: [],
    endpoints: [],
    sequence,
  });

/** A book on a disk, opened as often as one likes. */
const disk = () => {
  const saved = new Map<string, SavedRecord>();
  return (now: Moment) =>
    new RecordBook(
      { network: 'red', networkUid: 'uid', home: TRUST_DOMAIN, pools: [], node: 'one' },
      {
        saved: {
          list: () => [...saved.values()],
          put: (node, signed, acceptedAt) => saved.set(node, { node, signed, acceptedAt }),
          delete: (node) => saved.delete(node),
        },
        verifierOf: () => signer.verifierOf(() => signer.authorities),
        report: () => undefined,
      },
      now,
    );
};

/** `boot` and `jump` in milliseconds after NOW. */
const later = (boot: number, jump = 0, bootId = 'first'): Moment => ({
  bootId,
  boot: NOW.boot + boot,
  wall: WALL + boot + jump,
});

test('a peer that was verified holds to the end of its record, however the wall clock jumps and the agent restarts', () => {
  const jumps = fc.integer({ min: -400 * DAY, max: 400 * DAY });
  const waits = fc.integer({ min: 0, max: 8 * DAY });
  fc.assert(
    fc.property(waits, jumps, fc.boolean(), (wait, jump, restarts) => {
      const open = disk();
      let book = open(NOW);
      book.accept('two', recordOf(1), NOW);
      if (restarts) book = open(later(wait, jump));
      expect(book.valid(later(wait, jump))).toHaveLength(wait < 7 * DAY ? 1 : 0);
    }),
  );
});

test('after a reboot the wall clock decides, and what it was wrong about comes back once it is set', () => {
  const open = disk();
  open(NOW).accept('two', recordOf(1), NOW);
  const wrong = later(0, -30 * DAY, 'second');
  const book = open(wrong);
  expect(book.valid(wrong)).toEqual([]);
  expect(book.retry(wrong)).toBe(false);
  expect(book.retry(later(3000, 0, 'second'))).toBe(true);
  expect(book.valid(later(3000, 0, 'second'))).toHaveLength(1);
  expect(book.valid(later(4000, -30 * DAY, 'second'))).toHaveLength(1);
});

test('a record that comes while the clock is wrong is refused, the one before it holds on, and it is taken once the clock is set', () => {
  const book = disk()(NOW);
  book.accept('two', recordOf(1), NOW);
  const wrong = later(1000, 30 * DAY);
  expect(book.accept('two', recordOf(2), wrong)).toBe(false);
  expect(book.refusals.get('two')).toMatch(/does not verify/);
  expect(book.valid(wrong).map(({ sequence }) => sequence)).toEqual([1]);
  const set = later(2000);
  expect(book.retry(set)).toBe(true);
  expect(book.refusals.size).toBe(0);
  expect(book.valid(set).map(({ sequence }) => sequence)).toEqual([2]);
});

test('what was refused is looked at again when its time has come, and not at every turn', () => {
  const young = issue('two', WALL + 30_000, WALL + DAY);
  const book = disk()(NOW);
  book.accept('two', recordOf(1, young), NOW);
  expect(book.retry(later(45_000))).toBe(false);
  expect(book.retry(later(60_000))).toBe(true);
});

test('a tombstone takes what was refused as well', () => {
  const book = disk()(NOW);
  book.accept('two', recordOf(1), later(0, 30 * DAY));
  book.bury('two', 1);
  expect(book.retry(later(2000))).toBe(false);
  expect(book.valid(later(2000))).toEqual([]);
});

test('a record of an earlier version is verified by the wall clock and from then on holds by the other', () => {
  const old: SavedRecord[] = [{ node: 'two', signed: recordOf(1), acceptedAt: undefined }];
  const put: (Moment | undefined)[] = [];
  const book = new RecordBook(
    { network: 'red', networkUid: 'uid', home: TRUST_DOMAIN, pools: [], node: 'one' },
    {
      saved: { list: () => old, put: (_, __, at) => put.push(at), delete: () => undefined },
      verifierOf: () => signer.verifierOf(() => signer.authorities),
      report: () => undefined,
    },
    NOW,
  );
  expect(put).toEqual([NOW]);
  expect(book.valid(later(1000, 30 * DAY))).toHaveLength(1);
});

// --- what the registry does not know

test('this node testifies of what the registry does not list, or lists an older record of, and of nothing else', () => {
  const third = issue('three', WALL - 1000, WALL + DAY);
  const book = disk()(NOW);
  book.accept('one', signed(3), NOW);
  book.accept('two', recordOf(2), NOW);
  book.accept('three', recordOf(1, third), NOW);
  expect(book.testimony(NOW)).toEqual([]);
  book.listing.begin('store', NOW.boot);
  expect(book.testimony(NOW)).toEqual([recordOf(2), recordOf(1, third)]);
  book.accept('two', recordOf(1), NOW);
  book.accept('three', recordOf(1, third), NOW);
  expect(book.testimony(NOW)).toEqual([recordOf(2)]);
  expect(book.testimony(later(8 * DAY))).toEqual([]);
});

test('it never testifies of a record that did not verify', () => {
  const book = disk()(NOW);
  const forged = recordOf(1);
  forged.signature[0] = (forged.signature[0] ?? 0) ^ 1;
  book.accept('two', forged, NOW);
  book.listing.begin('store', NOW.boot);
  expect(book.testimony(NOW)).toEqual([]);
});

// --- of several domains

const partner = new SimulatedSigner(new Uint8Array(32).fill(7), 'partner.example');

test("a node of another domain is known by its domain, and by that domain's bundle alone", () => {
  let isFull = false;
  const saved = new Map<string, SavedRecord>();
  let isFederated = true;
  const reports: string[] = [];
  const book = new RecordBook(
    { network: 'red', networkUid: 'uid', home: TRUST_DOMAIN, pools: [], node: 'one' },
    {
      saved: {
        list: () => [...saved.values()],
        put: (node, signed, acceptedAt) => {
          if (isFull) throw new Error('no space left on the device');
          saved.set(node, { node, signed, acceptedAt });
        },
        delete: (node) => saved.delete(node),
      },
      verifierOf: (domain) =>
        domain === TRUST_DOMAIN
          ? signer.verifierOf(() => signer.authorities)
          : isFederated
            ? partner.verifierOf(() => partner.authorities)
            : undefined,
      report: (_, node, reason) => void reports.push(`${node}: ${reason}`),
    },
    NOW,
  );
  const content = { network: 'red', networkUid: 'uid', prefixes: [], endpoints: [], sequence: 1 };
  const theirs = partner.sign(partner.issue('two', WALL, DAY), {
    ...content,
    home: TRUST_DOMAIN,
    publicKey: `${'C'.repeat(42)}A=`,
  });
  const nodes = () => book.valid(NOW).map(({ node }) => node);
  // As one of the home, as one of a third, and as one that its name does not say.
  expect(book.accept('two', theirs, NOW)).toBe(false);
  expect(book.accept('two@third.example', theirs, NOW)).toBe(false);
  expect(book.accept('three@partner.example', theirs, NOW)).toBe(false);
  expect(book.accept(`two@${TRUST_DOMAIN}`, theirs, NOW)).toBe(false);
  expect(book.refusals.get('three@partner.example')).toMatch(/record of "two@partner.example" for "three@/);
  expect(book.accept('two@partner.example', theirs, NOW)).toBe(true);
  // And of the home's nodes none is taken for the partner's.
  expect(book.accept('two@partner.example', recordOf(9), NOW)).toBe(false);
  expect(nodes()).toEqual(['two@partner.example']);

  isFederated = false;
  expect(book.trustChanged('partner.example', NOW)).toBe(true);
  expect(nodes()).toEqual([]);
  expect(book.refusals.get('two@partner.example')).toMatch(
    /partner\.example, with which .* is not federated/,
  );
  expect(book.accept('two@partner.example', theirs, NOW)).toBe(false);
  isFederated = true;
  isFull = true;
  expect(book.trustChanged('partner.example', NOW)).toBe(false);
  expect(nodes()).toEqual([]);
  // A full disk keeps nobody in, and nobody out for long.
  isFull = false;
  expect(book.trustChanged('partner.example', NOW)).toBe(true);
  expect(nodes()).toEqual(['two@partner.example']);
});
