// One path: what is found out by probes of a way that drops what is too big without a word.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BASE_PATH_MTU, PathMtu } from '../../../native-free/device/path-mtu.ts';

const CEILING = 1500;
const TICK = 100;

interface PathOptions {
  carries?: number;
  ceiling?: number;
  roundTrip?: number;
  /** Whether the peer answers at all. */
  answers?: boolean;
  /** Whether probe number n is lost. */
  loses?: (n: number) => boolean;
}

/** A path and its peer, in steps of a tick; data is sent all the time unless it is made idle. */
class Path {
  carries: number;
  answers: boolean;
  isBusy = true;
  now = 1_000;
  sent = 0;
  readonly sizes: number[] = [];
  readonly mtu: PathMtu;
  readonly #roundTrip: number;
  readonly #loses: (n: number) => boolean;
  #underWay: { at: number; sequence: number }[] = [];

  constructor(options: PathOptions = {}) {
    const { carries = CEILING, ceiling = CEILING, roundTrip = 20, answers = true } = options;
    this.carries = carries;
    this.answers = answers;
    this.#roundTrip = roundTrip;
    this.#loses = options.loses ?? (() => false);
    this.mtu = new PathMtu(ceiling);
    this.mtu.sessionBegun(this.now);
  }

  run(milliseconds: number): this {
    const end = this.now + milliseconds;
    for (; this.now < end; this.now += TICK) {
      const arrived = this.#underWay.filter(({ at }) => at <= this.now);
      this.#underWay = this.#underWay.filter(({ at }) => at > this.now);
      for (const { sequence } of arrived) this.mtu.answered(sequence, this.now);
      for (const { sequence, size } of this.mtu.tick(this.now, this.isBusy)) {
        this.sizes.push(size);
        this.sent += 1;
        const isLost = size > this.carries || !this.answers || this.#loses(this.sent);
        if (!isLost) this.#underWay.push({ at: this.now + this.#roundTrip, sequence });
      }
    }
    return this;
  }
}

describe('the path MTU', () => {
  it('of a way that carries everything is known after two probes', () => {
    const path = new Path().run(2_000);
    expect(path.mtu.limit).toBeUndefined();
    expect(path.mtu.proven).toBe(CEILING);
    expect(path.sizes).toEqual([BASE_PATH_MTU, CEILING]);
  });

  it('is found to a few bytes, never too large, within seconds', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: BASE_PATH_MTU, max: 9_000 }),
        fc.integer({ min: BASE_PATH_MTU + 1, max: 9_000 }),
        fc.integer({ min: 0, max: 400 }),
        (carries, ceiling, roundTrip) => {
          const { mtu, sent } = new Path({ carries, ceiling, roundTrip }).run(40_000);
          const truth = Math.min(carries, ceiling);
          expect(mtu.proven).toBeLessThanOrEqual(truth);
          expect(mtu.proven).toBeGreaterThanOrEqual(truth - 8);
          expect(mtu.limit).toBe(mtu.proven === ceiling ? undefined : mtu.proven);
          expect(sent).toBeLessThan(200);
        },
      ),
    );
  });

  it('takes less than three seconds on a short way, and less than a hundred probes', () => {
    const path = new Path({ carries: 1400 }).run(3_000);
    expect(path.mtu.limit).toBeGreaterThan(1392);
    expect(path.sent).toBeLessThan(100);
  });

  it('is found although one in ten probes is lost', () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(9)), (luck) => {
        const loses = (): boolean => luck.next().value === 0;
        const { mtu } = new Path({ carries: 1400, loses }).run(60_000);
        expect(mtu.limit).toBeLessThanOrEqual(1400);
        expect(mtu.limit).toBeGreaterThanOrEqual(1340);
      }),
    );
  });

  it('is noticed to be lower within seconds while data is sent, and not before there is some', () => {
    const path = new Path().run(10_000);
    path.carries = 1350;
    path.isBusy = false;
    path.run(60_000);
    expect(path.mtu.limit).toBeUndefined();
    path.isBusy = true;
    path.run(10_000);
    expect(path.mtu.limit).toBeLessThanOrEqual(1350);
    expect(path.mtu.limit).toBeGreaterThan(1342);
  });

  it('is tried to be raised after ten minutes, not before', () => {
    const path = new Path({ carries: 1300 }).run(10_000);
    path.carries = CEILING;
    path.run(580_000);
    expect(path.mtu.limit).toBeLessThanOrEqual(1300);
    path.run(30_000);
    expect(path.mtu.limit).toBeUndefined();
  });

  it('is not touched by an outage', () => {
    for (const carries of [CEILING, 1400]) {
      const path = new Path({ carries }).run(10_000);
      const before = path.mtu.limit;
      path.answers = false;
      path.run(120_000);
      expect(path.mtu.limit).toBe(before);
      path.answers = true;
      path.run(120_000);
      expect(path.mtu.limit).toBe(before);
    }
  });

  it('costs an idle peer nothing, and a busy one two probes every five seconds', () => {
    const path = new Path({ carries: 1400 }).run(10_000);
    path.sent = 0;
    path.run(100_000);
    expect(path.sent).toBeLessThanOrEqual(42);
    path.isBusy = false;
    path.sent = 0;
    path.run(3_600_000);
    expect(path.sent).toBe(0);
  });

  it('is not asked for before data is sent, and then at once', () => {
    const path = new Path({ carries: 1400 });
    path.isBusy = false;
    path.run(100_000);
    expect(path.sent).toBe(0);
    path.isBusy = true;
    path.run(3_500);
    expect(path.mtu.limit).toBeGreaterThan(1392);
  });

  it('is found anew when the way is another one', () => {
    const path = new Path({ carries: 1300 }).run(10_000);
    path.carries = 1450;
    path.mtu.moved(CEILING, path.now);
    expect(path.mtu.limit).toBeUndefined();
    path.run(5_000);
    expect(path.mtu.limit).toBeGreaterThan(1442);
  });

  it('of a peer that moves all the time is not asked for all the time', () => {
    const path = new Path();
    for (let i = 0; i < 100; i++) {
      path.mtu.moved(CEILING, path.now);
      path.run(TICK);
    }
    expect(path.sent).toBeLessThanOrEqual(22);
  });

  it('is nothing to look for where no packet is larger than what passes everywhere', () => {
    expect(new Path({ ceiling: BASE_PATH_MTU }).run(100_000).sent).toBe(0);
  });
});

describe('a peer that answers no probe', () => {
  it('is left alone, longer each time', () => {
    const path = new Path({ answers: false }).run(86_400_000);
    expect(path.mtu.limit).toBeUndefined();
    expect(path.sent).toBeLessThan(90);
  });

  it('has the limit that a router tells, for ten minutes, and never less than what passes everywhere', () => {
    const path = new Path({ answers: false }).run(10_000);
    path.mtu.tooBig(1400, path.now);
    expect(path.mtu.limit).toBe(1400);
    path.mtu.tooBig(1450, path.now);
    expect(path.mtu.limit).toBe(1400);
    path.mtu.tooBig(0, path.now);
    expect(path.mtu.limit).toBe(BASE_PATH_MTU);
    path.run(590_000);
    expect(path.mtu.limit).toBe(BASE_PATH_MTU);
    path.run(20_000);
    expect(path.mtu.limit).toBeUndefined();
  });

  it('has the limit that was told while it was asked', () => {
    const path = new Path({ answers: false }).run(500);
    path.mtu.tooBig(1400, path.now);
    path.run(5_000);
    expect(path.mtu.limit).toBe(1400);
  });
});

describe('what a router tells of a peer that answers', () => {
  it('is found to be true within a second', () => {
    const path = new Path().run(10_000);
    path.carries = 1333;
    path.mtu.tooBig(1333, path.now);
    path.run(1_500);
    expect(path.mtu.limit).toBe(1333);
  });

  it('changes nothing when it is a lie, however often it is told', () => {
    const path = new Path({ carries: 1450 }).run(10_000);
    const before = path.mtu.limit;
    path.sent = 0;
    for (let i = 0; i < 1000; i++) {
      path.mtu.tooBig(i % 2 === 0 ? 68 : 1300, path.now);
      path.run(TICK);
      expect(path.mtu.limit).toBe(before);
    }
    expect(path.sent).toBeLessThan(400);
  });
});

describe('lies told during a search', () => {
  it('neither end it early nor shrink what it finds', () => {
    for (const lie of [0, 68, 1281, 1290, 1400]) {
      const path = new Path({ carries: 1450, roundTrip: 150 });
      for (let i = 0; i < 100; i++) {
        path.mtu.tooBig(lie, path.now);
        path.run(TICK);
      }
      // Before the first answer it may be anybody who is silent.
      expect(path.mtu.proven, `${lie}`).toBeGreaterThan(1441);
      path.run(10_000);
      expect(path.mtu.limit, `${lie}`).toBeGreaterThan(1441);
    }
  });

  it('and a router that does not say how much it carries has the truth found out', () => {
    const path = new Path().run(10_000);
    path.carries = 1400;
    path.mtu.tooBig(0, path.now);
    path.run(3_000);
    expect(path.mtu.limit).toBeGreaterThan(1392);
  });
});

describe('a peer that answers no more', () => {
  it('though data is sent, keeps its small limit for minutes and not for ever', () => {
    const path = new Path({ carries: 1300 }).run(10_000);
    path.answers = false;
    path.run(300_000);
    expect(path.mtu.limit).toBeGreaterThan(1292);
    path.run(900_000);
    expect(path.mtu.limit).toBeUndefined();
    path.sent = 0;
    path.run(86_400_000);
    expect(path.sent).toBeLessThan(90);
  });

  it('but asks, is asked again at once', () => {
    const path = new Path({ carries: 1300, answers: false }).run(7_200_000);
    path.answers = true;
    path.sent = 0;
    path.run(60_000);
    expect(path.sent).toBe(0);
    path.mtu.asked(path.now);
    path.run(5_000);
    expect(path.mtu.limit).toBeGreaterThan(1292);
  });

  it('however often it asks, is asked but once a second', () => {
    const path = new Path({ answers: false }).run(100_000);
    path.sent = 0;
    for (let i = 0; i < 600; i++) {
      path.mtu.asked(path.now);
      path.run(TICK);
    }
    expect(path.sent).toBeLessThan(130);
  });
});

describe('answers', () => {
  it('that nobody asked for, or that come twice or late, change nothing', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(200), { maxLength: 50 }), (sequences) => {
        const path = new Path({ answers: false });
        path.run(100_000);
        for (const sequence of sequences) path.mtu.answered(sequence, path.now);
        expect(path.mtu.proven).toBeUndefined();
        expect(path.mtu.limit).toBeUndefined();
      }),
    );
  });
});
