import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Keypairs } from '../../../native-free/noise/keypair.ts';

const keypair = (localIndex: number) => ({ localIndex });

test("the initiator's keypair is used at once and its predecessor stays", () => {
  const keypairs = new Keypairs();
  expect(keypairs.installAsInitiator(keypair(1))).toEqual([]);
  expect(keypairs.installAsInitiator(keypair(2))).toEqual([]);
  expect(keypairs.current).toEqual(keypair(2));
  expect(keypairs.previous).toEqual(keypair(1));
  expect(keypairs.installAsInitiator(keypair(3))).toEqual([]);
  expect(keypairs.installAsInitiator(keypair(4))).toEqual([keypair(1)]);
});

test("the responder's keypair waits until it is confirmed", () => {
  const keypairs = new Keypairs();
  keypairs.installAsInitiator(keypair(1));
  keypairs.installAsResponder(keypair(2));
  expect(keypairs.current).toEqual(keypair(1));
  expect(keypairs.confirm(1)).toBeUndefined();
  expect(keypairs.confirm(2)).toEqual([]);
  expect(keypairs.current).toEqual(keypair(2));
  expect(keypairs.previous).toEqual(keypair(1));
  expect(keypairs.confirm(2)).toBeUndefined();
});

test('a second response replaces the first that was never confirmed', () => {
  const keypairs = new Keypairs();
  keypairs.installAsResponder(keypair(1));
  expect(keypairs.installAsResponder(keypair(2))).toEqual([keypair(1)]);
  expect(keypairs.next).toEqual(keypair(2));
});

test('when both ends rekey at once, both sessions and the one before can still be heard', () => {
  const keypairs = new Keypairs();
  keypairs.installAsInitiator(keypair(1));
  keypairs.installAsResponder(keypair(2));
  expect(keypairs.installAsInitiator(keypair(3))).toEqual([]);
  expect(keypairs.current).toEqual(keypair(3));
  expect(
    keypairs
      .all()
      .map((one) => one.localIndex)
      .toSorted(),
  ).toEqual([1, 2, 3]);
});

test('after both ends rekeyed at once, the session that the other seals with can be heard until its next rekey is over', () => {
  const keypairs = new Keypairs();
  keypairs.installAsResponder(keypair(1));
  keypairs.installAsInitiator(keypair(2));
  // The other seals with 1 until it has heard under 3, and that may be after it answered.
  expect(keypairs.installAsInitiator(keypair(3))).toEqual([]);
  expect(keypairs.installAsResponder(keypair(4))).toEqual([]);
  expect(keypairs.confirm(4)).toEqual([keypair(1)]);
});

/** The obvious way: the whole history, from which the places are worked out anew each time. */
class SlowKeypairs {
  readonly #events: { kind: 'initiator' | 'responder' | 'confirm' | 'remove'; index: number }[] = [];

  add(kind: 'initiator' | 'responder' | 'confirm' | 'remove', index: number): void {
    this.#events.push({ kind, index });
  }

  places(): { current?: number; previous?: number; next?: number; retired: (number | null)[] } {
    let places: ReturnType<SlowKeypairs['places']> = { retired: [] };
    for (const { kind, index } of this.#events) {
      const { current, previous, next, retired } = places;
      const after = { current, previous, next, retired };
      if (kind === 'responder') after.next = index;
      if (kind === 'initiator')
        Object.assign(
          after,
          next === undefined
            ? { current: index, previous: current, retired: [previous] }
            : { current: index, previous: next, next: undefined, retired: [current, previous] },
        );
      if (kind === 'confirm' && next === index)
        Object.assign(after, { current: next, previous: current, next: undefined, retired: [previous] });
      if (kind === 'remove') {
        for (const place of ['current', 'previous', 'next'] as const)
          if (after[place] === index) after[place] = undefined;
        after.retired = retired.filter((one) => one !== index);
      }
      places = JSON.parse(JSON.stringify(after));
    }
    return places;
  }
}

describe('under any sequence of handshakes, confirmations and expiries', () => {
  const step = fc.record({
    kind: fc.constantFrom('initiator' as const, 'responder' as const, 'confirm' as const, 'remove' as const),
    pick: fc.nat(5),
  });

  test('places are those of the slow twin, and each keypair is forgotten exactly once', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const keypairs = new Keypairs<{ localIndex: number }>();
        const slow = new SlowKeypairs();
        const held = new Set<number>();
        let last = 0;
        for (const { kind, pick } of steps) {
          const isNew = kind === 'initiator' || kind === 'responder';
          const index = isNew ? ++last : Math.max(1, last - pick);
          if (isNew) held.add(index);
          slow.add(kind, index);
          const forgotten =
            kind === 'initiator'
              ? keypairs.installAsInitiator(keypair(index))
              : kind === 'responder'
                ? keypairs.installAsResponder(keypair(index))
                : kind === 'confirm'
                  ? (keypairs.confirm(index) ?? [])
                  : keypairs.removeIf((one) => one.localIndex === index);
          for (const one of forgotten) expect(held.delete(one.localIndex)).toBe(true);
          const places = slow.places();
          expect(keypairs.current?.localIndex).toBe(places.current);
          expect(keypairs.previous?.localIndex).toBe(places.previous);
          expect(keypairs.next?.localIndex).toBe(places.next);
          expect(new Set(keypairs.all().map((one) => one.localIndex))).toEqual(held);
          expect(held.size).toBeLessThanOrEqual(5);
        }
      }),
      { numRuns: 500 },
    );
  });
});
