import { describe, expect, test } from 'vitest';
import { encodeGrant, type Grant, type VerifyGrant } from '../../../native-free/admission/grant.ts';
import { GrantBook, type SavedGrant } from '../../../native-free/admission/grant-book.ts';
import { formatPrefix } from '../../../native-free/ipam/prefix.ts';
import type { Moment } from '../../../native-free/moment.ts';
import type { SignedRecord } from '../../../native-free/registry/record.ts';

const WEEK = 7 * 24 * 3_600_000;
const WALL = 1_800_000_000_000;
const at = (passed = 0, over: Partial<Moment> = {}): Moment => ({
  bootId: 'b1',
  boot: 5_000 + passed,
  wall: WALL + passed,
  ...over,
});

const grant = (over: Partial<Grant> = {}): Grant => ({
  trustDomain: 'home.example',
  network: 'red',
  networkUid: 'uid',
  nodeDomain: 'home.example',
  node: 'n1',
  isWhole: false,
  addresses: ['10.60.0.7'],
  storeId: 'store',
  sequence: WALL,
  notBefore: WALL - 60_000,
  notAfter: WALL + WEEK,
  ...over,
});

/** Signed by whom the first byte of the signature says: 1 is the domain, 0 is nobody. */
const signed = (over: Partial<Grant> = {}, by = 1): SignedRecord => ({
  record: encodeGrant(grant(over)),
  signature: new Uint8Array(64).fill(by),
  certificateChain: [Uint8Array.of(1)],
});

const byHome: VerifyGrant = (_chain, _input, signature) =>
  signature[0] === 1 ? { trustDomain: 'home.example', notAfter: WALL + 2 * WEEK } : undefined;

const world = (saved: SavedGrant[] = [], now = at(), verify: VerifyGrant = byHome) => {
  const refused: string[] = [];
  const book = new GrantBook(
    { network: 'red', networkUid: 'uid', home: 'home.example' },
    {
      verify,
      report: (_, reason) => refused.push(reason),
      saved: {
        list: () => [...saved],
        put: (node, one, acceptedAt) => {
          saved.splice(0, saved.length, ...saved.filter((other) => other.node !== node), {
            node,
            signed: one,
            acceptedAt,
          });
        },
        delete: (node) => {
          saved.splice(0, saved.length, ...saved.filter((other) => other.node !== node));
        },
      },
    },
    now,
  );
  const of = (now = at(), node = 'n1') => {
    const granted = book.of(node, now);
    return granted === 'whole' ? granted : granted.map(formatPrefix);
  };
  return { book, of, saved, refused };
};

describe('a grant', () => {
  test('holds as it says, whole or by address, and a node without one has nothing', () => {
    const { book, of } = world();
    expect(of()).toEqual([]);
    expect(book.accept('n1', signed({ addresses: ['10.60.0.7', 'fd00::7'] }), at())).toBe(true);
    expect(of()).toEqual(['10.60.0.7/32', 'fd00::7/128']);
    expect(book.accept('n1', signed({ isWhole: true, addresses: [], sequence: WALL + 1 }), at())).toBe(true);
    expect(of()).toBe('whole');
    expect(of(at(), 'n2')).toEqual([]);
  });

  test('of a node of another domain is by address, and for that domain’s node alone', () => {
    const { book, of, refused } = world();
    const key = 'n1@partner.example';
    const foreign = { nodeDomain: 'partner.example' };
    expect(book.accept(key, signed(), at())).toBe(false);
    expect(book.accept('n1@home.example', signed(), at())).toBe(false);
    expect(book.accept(key, signed({ nodeDomain: 'other.example' }), at())).toBe(false);
    expect(book.accept(key, signed(foreign), at())).toBe(true);
    expect(of(at(), key)).toEqual(['10.60.0.7/32']);
    expect(of()).toEqual([]);
    expect(refused).toHaveLength(3);
  });

  test('goes when its signer is believed no more, and what is not of that stays', () => {
    let believed = true;
    const { book, of } = world([], at(), (...args) => (believed ? byHome(...args) : undefined));
    book.accept('n1', signed(), at());
    expect(book.trustChanged()).toBe(false);
    believed = false;
    expect(book.trustChanged()).toBe(true);
    expect(of()).toEqual([]);
  });

  test.each<[string, Partial<Grant>, RegExp]>([
    ['of another node', { node: 'n2' }, /for node "n2"/],
    ['of a node of another domain', { nodeDomain: 'partner.example' }, /for node "n1" of partner\.example/],
    ['for another network', { network: 'green' }, /for network "green"/],
    ['for an earlier network of that name', { networkUid: 'old' }, /for network "red" \(old\)/],
    ['of another domain than its signer', { trustDomain: 'partner.example' }, /signed a grant of partner/],
    ['that has ended', { notAfter: WALL }, /not valid at this time/],
    ['of times to come', { notBefore: WALL + 1 }, /not valid at this time/],
    ['of a sequence far ahead', { sequence: WALL + 400 * 24 * 3_600_000 }, /far ahead/],
    ['that would outlive its signer', { notAfter: WALL + 3 * WEEK }, /outlive the certificate/],
  ])('%s is refused', (_, over, reason) => {
    const { book, of, refused } = world();
    expect(book.accept('n1', signed(over), at())).toBe(false);
    expect(of()).toEqual([]);
    expect(refused.join()).toMatch(reason);
  });

  test('that nobody signed, or not in its one form, is refused and displaces nothing', () => {
    const { book, of, refused } = world();
    book.accept('n1', signed(), at());
    book.accept('n1', signed({ isWhole: true, addresses: [], sequence: WALL + 5 }, 0), at());
    expect(refused.at(-1)).toMatch(/does not verify/);
    const { record, ...rest } = signed({ addresses: ['10.60.0.8', '10.60.0.9'], sequence: WALL + 5 });
    const text = new TextDecoder().decode(record);
    const disordered = new TextEncoder().encode(
      text.replace('"10.60.0.8","10.60.0.9"', '"10.60.0.9","10.60.0.8"'),
    );
    book.accept('n1', { ...rest, record: disordered }, at());
    expect(refused.at(-1)).toMatch(/not a canonical grant/);
    expect(of()).toEqual(['10.60.0.7/32']);
  });

  test('that is older does not come back, whoever replays it', () => {
    const { book, of } = world();
    book.accept('n1', signed({ sequence: WALL + 2, addresses: [] }), at());
    expect(book.accept('n1', signed({ sequence: WALL + 1 }), at())).toBe(false);
    expect(of()).toEqual([]);
  });

  test('ends when its time is over, whatever the wall clock says by then, and that is noticed', () => {
    const { book, of } = world();
    book.accept('n1', signed(), at());
    expect(of(at(WEEK - 1, { wall: 0 }))).toEqual(['10.60.0.7/32']);
    expect(book.retry(at(WEEK - 1))).toBe(false);
    expect(of(at(WEEK, { wall: 0 }))).toEqual([]);
    expect(book.retry(at(WEEK))).toBe(true);
    expect(book.retry(at(WEEK + 1))).toBe(false);
  });

  test('that has ended does not keep out one of a registry whose clock was ahead when it signed it', () => {
    const { book } = world();
    const [minute, day] = [60_000, 24 * 3_600_000];
    book.accept('n1', signed({ sequence: WALL + day, notAfter: WALL + minute }), at());
    const next = signed({ sequence: WALL + minute, addresses: ['10.60.0.8'] });
    expect(book.accept('n1', next, at(minute - 1))).toBe(false);
    expect(book.accept('n1', next, at(minute))).toBe(true);
    expect(book.of('n1', at(minute))).not.toEqual([]);
  });

  test('outlives a restart, with what it has left, and is verified again', () => {
    const { book, saved } = world();
    book.accept('n1', signed(), at());
    expect(world(saved, at(1000)).of(at(1000))).toEqual(['10.60.0.7/32']);
    const forged = saved.map((one) => ({ ...one, signed: signed({ isWhole: true, addresses: [] }, 0) }));
    expect(world(forged, at(1000)).of(at(1000))).toEqual([]);
    expect(
      world(saved, at(0, { bootId: 'b2', boot: 1, wall: WALL + WEEK })).of(at(0, { bootId: 'b2', boot: 1 })),
    ).toEqual([]);
  });

  test('that a wrong clock refused is taken once the clock was set', () => {
    const { book, of } = world([], at(0, { wall: 0 }));
    expect(book.accept('n1', signed(), at(0, { wall: 0 }))).toBe(false);
    expect(book.retry(at(2000, { wall: 2000 }))).toBe(false);
    expect(book.retry(at(3000))).toBe(true);
    expect(of(at(3000))).toEqual(['10.60.0.7/32']);
  });
});
