import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type BundleCertificate,
  type BundleOrigin,
  countingCertificates,
  type HeldBundle,
  judgeBundle,
  MAX_REFRESH_MS,
  MIN_REFRESH_MS,
  nextPollMs,
  type SpiffeBundle,
  UNCONFIRMED_MS,
} from '../../../native-free/federation/bundle-rules.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = 1_800_000_000_000;

const authority = (name: string, notBefore = NOW - DAY, notAfter = NOW + 365 * DAY): BundleCertificate => ({
  der: new TextEncoder().encode(name),
  fingerprint: name,
  notBefore,
  notAfter,
});

const bundle = (names: readonly string[], more: Partial<SpiffeBundle> = {}): SpiffeBundle => ({
  trustDomain: 'partner.example',
  certificates: names.map((name) => authority(name)),
  jwtKeyIds: [],
  ignored: 0,
  sequence: 5n,
  refreshHint: 300,
  text: names.join(),
  ...more,
});

const held = (of: SpiffeBundle, confirmedAt = NOW): HeldBundle => ({ bundle: of, confirmedAt });
const judge = (
  before: SpiffeBundle | undefined,
  offered: SpiffeBundle,
  origin: BundleOrigin = 'endpoint',
  now = NOW,
) => judgeBundle(before && held(before, NOW - HOUR), offered, origin, now);
const refused = (why: RegExp) => ({ kind: 'refused', message: expect.stringMatching(why) });

describe('a bundle from its endpoint', () => {
  test('is taken when it is the first', () => {
    expect(judge(undefined, bundle(['a']))).toMatchObject({ kind: 'replaced', added: ['a'], removed: [] });
  });

  test('replaces the one before wholly: nothing of that is left beside it', () => {
    const verdict = judge(bundle(['a', 'b']), bundle(['b', 'c'], { sequence: 6n }));
    expect(verdict).toMatchObject({ kind: 'replaced', added: ['c'], removed: ['a'], overlaps: true });
    expect(verdict.kind === 'replaced' && countingCertificates(verdict.held, NOW)).toEqual([
      authority('b'),
      authority('c'),
    ]);
  });

  test('that keeps none of the CAs is told apart', () => {
    expect(judge(bundle(['a']), bundle(['b'], { sequence: 6n }))).toMatchObject({ overlaps: false });
  });

  test('is confirmed when it says the same, whatever the order and the hint', () => {
    const verdict = judge(bundle(['a', 'b']), bundle(['b', 'a'], { refreshHint: 60 }));
    expect(verdict).toMatchObject({
      kind: 'confirmed',
      held: { confirmedAt: NOW, bundle: { refreshHint: 60 } },
    });
  });

  test('never goes back', () => {
    expect(judge(bundle(['a']), bundle(['b'], { sequence: 4n }))).toEqual(refused(/4 is lower than 5/));
    expect(judge(bundle(['a']), bundle(['a'], { sequence: 4n }))).toEqual(refused(/4 is lower than 5/));
  });

  test('says nothing else under the same sequence', () => {
    expect(judge(bundle(['a']), bundle(['b']))).toEqual(refused(/something else under the same sequence 5/));
    expect(judge(bundle(['a']), bundle(['a', 'b']))).toEqual(refused(/something else/));
    expect(judge(bundle(['a']), bundle([]))).toEqual(refused(/something else/));
  });

  test('does not lose its sequence, by which it could go back afterwards', () => {
    expect(judge(bundle(['a']), bundle(['a'], { sequence: undefined }))).toEqual(
      refused(/no sequence number/),
    );
  });

  test('without any sequence is the newest when it was fetched last', () => {
    const none = { sequence: undefined };
    expect(judge(bundle(['a'], none), bundle(['b'], none))).toMatchObject({ kind: 'replaced' });
    expect(judge(bundle(['a'], none), bundle(['b'], { sequence: 1n }))).toMatchObject({ kind: 'replaced' });
  });

  test('without any CA takes back all that its domain ever signed', () => {
    const verdict = judge(bundle(['a']), bundle([], { sequence: 6n }));
    expect(verdict).toMatchObject({ kind: 'replaced', removed: ['a'] });
    expect(verdict.kind === 'replaced' && countingCertificates(verdict.held, NOW)).toEqual([]);
  });

  test('whose CAs are all over, or all yet to come, is no replacement', () => {
    const past = bundle([], { certificates: [authority('b', NOW - 2 * DAY, NOW - DAY)], sequence: 6n });
    const future = bundle([], { certificates: [authority('b', NOW + DAY)], sequence: 6n });
    for (const one of [past, future])
      expect(judge(bundle(['a']), one)).toEqual(refused(/none of its certificates is valid now/));
  });

  test("is never put in another domain's place, whoever says so", () => {
    for (const origin of ['endpoint', 'admin'] as const)
      expect(judge(bundle(['a']), bundle(['a'], { trustDomain: 'other.example' }), origin)).toEqual(
        refused(/never put beside one of partner\.example/),
      );
  });

  test('keeps sequences apart that are one to a number of 53 bits', () => {
    const big = 2n ** 63n;
    expect(judge(bundle(['a'], { sequence: big + 1n }), bundle(['a'], { sequence: big }))).toEqual(
      refused(/is lower/),
    );
  });

  test('whatever is offered in whatever order, the sequence that is held never falls, and one sequence means one content', () => {
    const offers = fc.array(
      fc.record({
        sequence: fc.option(fc.bigInt(0n, 6n), { nil: undefined }),
        names: fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { maxLength: 3 }),
      }),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(offers, (list) => {
        let now: HeldBundle | undefined;
        const seen = new Map<bigint, string>();
        for (const { sequence, names } of list) {
          const before = now?.bundle.sequence;
          const verdict = judgeBundle(now, bundle(names, { sequence }), 'endpoint', NOW);
          if (verdict.kind === 'refused') continue;
          now = verdict.held;
          if (before !== undefined) expect(now.bundle.sequence ?? -1n).toBeGreaterThanOrEqual(before);
          if (sequence === undefined) continue;
          const content = [...names].sort().join();
          expect(seen.get(sequence) ?? content).toBe(content);
          seen.set(sequence, content);
        }
      }),
    );
  });
});

describe('a bundle from an admin', () => {
  test('may go back: a partner may have lost its memory', () => {
    expect(judge(bundle(['a']), bundle(['b'], { sequence: 1n }), 'admin')).toMatchObject({
      kind: 'replaced',
    });
    expect(judge(bundle(['a']), bundle(['b'], { sequence: undefined }), 'admin')).toMatchObject({
      kind: 'replaced',
    });
  });
});

describe('a bundle counts', () => {
  test('for seven days after its endpoint confirmed it, and then no more until that does', () => {
    const one = held(bundle(['a']));
    expect(UNCONFIRMED_MS).toBe(7 * DAY);
    expect(countingCertificates(one, NOW + UNCONFIRMED_MS - 1)).toHaveLength(1);
    expect(countingCertificates(one, NOW + UNCONFIRMED_MS)).toEqual([]);
  });

  test('as long whether clocks go forth or back', () => {
    const one = held(bundle(['a'], { certificates: [authority('a', 0)] }));
    expect(countingCertificates(one, NOW - DAY)).toHaveLength(1);
    expect(countingCertificates(one, NOW - UNCONFIRMED_MS)).toEqual([]);
  });

  test('with those of its CAs that are valid at the time', () => {
    const soon = authority('next', NOW + DAY);
    const ends = authority('last', NOW - DAY, NOW + HOUR);
    const one = held(bundle([], { certificates: [ends, soon] }));
    expect(countingCertificates(one, NOW)).toEqual([ends]);
    expect(countingCertificates(one, NOW + 2 * HOUR)).toEqual([]);
    expect(countingCertificates(one, NOW + DAY)).toEqual([soon]);
    expect(countingCertificates(undefined, NOW)).toEqual([]);
  });
});

describe('the endpoint is asked', () => {
  test('as often as its hint has it, within bounds, and never later', () => {
    fc.assert(
      fc.property(
        fc.option(fc.nat(400_000_000), { nil: undefined }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (refreshHint, fraction) => {
          const wait = nextPollMs(held(bundle(['a'], { refreshHint })), 0, fraction);
          const wanted = (refreshHint ?? 300) * 1000;
          const interval = Math.min(MAX_REFRESH_MS, Math.max(MIN_REFRESH_MS, wanted));
          expect(wait).toBeLessThanOrEqual(interval);
          expect(wait).toBeGreaterThan(interval * 0.89);
        },
      ),
    );
  });

  test('again after failures, ever more seldom, at least hourly and never oftener than every half minute', () => {
    fc.assert(
      fc.property(
        fc.nat(400_000_000),
        fc.integer({ min: 1, max: 1000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (refreshHint, failures, fraction) => {
          const wait = nextPollMs(held(bundle(['a'], { refreshHint })), failures, fraction);
          expect(wait).toBeGreaterThanOrEqual(MIN_REFRESH_MS / 2);
          expect(wait).toBeLessThanOrEqual(HOUR);
        },
      ),
    );
  });

  test('several times before what is held stops counting, also when each time fails', () => {
    let at = 0;
    let asked = 0;
    for (; at < UNCONFIRMED_MS; asked++)
      at += nextPollMs(held(bundle(['a'], { refreshHint: 1e8 })), asked, 0.99);
    expect(asked).toBeGreaterThan(100);
  });
});

describe('a CA that is rotated', () => {
  /**
   * The partner publishes the next CA `lead` before it signs by it, and the last for `term` after, which is how long what it signs
   * lasts. Whoever polls may be kept from it for up to `silence` at once.
   */
  const rotation = fc.record({
    hint: fc.integer({ min: 60, max: 86_400 }),
    lead: fc.integer({ min: 3, max: 5 }),
    rotations: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
    polls: fc.array(fc.boolean(), { minLength: 50, maxLength: 50 }),
    fraction: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  });

  test('with overlap is followed without a moment in which a good identity is refused', () => {
    fc.assert(
      fc.property(rotation, ({ hint, lead, rotations, polls, fraction }) => {
        const term = 7 * DAY;
        const ahead = lead * hint * 1000;
        let signs = NOW + ahead;
        const cas = [{ name: 'ca0', published: NOW - DAY, signs: NOW - DAY, stops: 0 }];
        for (const [i, days] of rotations.entries()) {
          signs += days * DAY;
          const last = cas.at(-1);
          if (last !== undefined) last.stops = signs;
          cas.push({ name: `ca${i + 1}`, published: signs - ahead, signs, stops: Number.POSITIVE_INFINITY });
        }
        const only = cas[0];
        if (only !== undefined && cas.length === 1) only.stops = Number.POSITIVE_INFINITY;
        const documentAt = (now: number): SpiffeBundle => {
          const there = cas.filter((ca) => ca.published <= now && now < ca.stops + term);
          const changes = cas.flatMap((ca) => [ca.published, ca.stops + term]).filter((at) => at <= now);
          return bundle(
            there.map((ca) => ca.name),
            { sequence: BigInt(changes.length), refreshHint: hint },
          );
        };
        let keeps: HeldBundle | undefined;
        let now = NOW;
        let misses = 0;
        for (let i = 0; i < 400; i++) {
          // Never two failures in a row: three to five times the hint are for that.
          const isHeard = misses > 0 || (polls[i % polls.length] ?? true) || keeps === undefined;
          if (isHeard) {
            const verdict = judgeBundle(keeps, documentAt(now), 'endpoint', now);
            expect(verdict.kind).not.toBe('refused');
            if (verdict.kind !== 'refused') keeps = verdict.held;
          }
          misses = isHeard ? 0 : misses + 1;
          const next = now + nextPollMs(keeps, misses, fraction);
          // Whatever is signed by then and still holds is known all the while: it is so at both ends of the time between.
          for (const at of [now, next - 1]) {
            const known = new Set(countingCertificates(keeps, at).map((one) => one.fingerprint));
            for (const ca of cas)
              if (ca.signs <= at && at < ca.stops + term)
                expect(known.has(ca.name), `${ca.name} at ${at}`).toBe(true);
          }
          now = next;
        }
      }),
      { numRuns: 60 },
    );
  });
});
