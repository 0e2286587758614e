// What is made of the numbers: medians, spread, ratios, what follows from them, and how they are told.

import { describe, expect, test } from 'vitest';
import { json, table } from './report.ts';
import { type Derived, derive, type Row, Samples } from './samples.ts';

const ROWS: readonly Row[] = [
  { name: 'tcp1', unit: 'Mbit/s', better: 'more' },
  { name: 'rtt', unit: 'ms', better: 'less' },
];
const NAMES = ['vl3', 'other', 'limit'];

const measured = (): Samples => {
  const samples = new Samples();
  for (const value of [100, 900, 120]) samples.add('tcp1', 'vl3', value);
  for (const value of [40, 60]) samples.add('tcp1', 'other', value);
  samples.add('rtt', 'vl3', 0.5);
  samples.add('rtt', 'other', 0);
  return samples;
};

describe('samples', () => {
  test('a median is not moved by one run that went astray', () => {
    expect(measured().median('tcp1', 'vl3')).toBe(120);
    expect(measured().median('tcp1', 'other')).toBe(50);
  });

  test('a ratio is of medians, ours by theirs', () => {
    expect(measured().ratio('tcp1', 'other')).toBe(2.4);
  });

  test('there is no ratio to what was not measured, nor to nothing', () => {
    expect(measured().ratio('tcp1', 'limit')).toBeUndefined();
    expect(measured().ratio('rtt', 'other')).toBeUndefined();
  });
});

describe('what is derived', () => {
  const half: Derived = {
    name: 'pods:bare',
    unit: 'x',
    better: 'more',
    from: ['pods', 'bare'],
    value: (pods, bare) => pods / bare,
  };

  test('is of two runs of one repetition', () => {
    const samples = new Samples();
    for (const value of [90, 50]) samples.add('pods', 'vl3', value);
    for (const value of [100, 50]) samples.add('bare', 'vl3', value);
    derive(samples, [half], NAMES);
    expect(samples.of('pods:bare', 'vl3')).toEqual([0.9, 1]);
  });

  test('is of medians where a repetition was discarded', () => {
    const samples = new Samples();
    for (const value of [90, 80, 70]) samples.add('pods', 'vl3', value);
    for (const value of [100, 60]) samples.add('bare', 'vl3', value);
    derive(samples, [half], NAMES);
    expect(samples.of('pods:bare', 'vl3')).toEqual([1]);
  });

  test('is nothing where a part is missing or there is nothing to divide by', () => {
    const samples = new Samples();
    samples.add('pods', 'vl3', 90);
    samples.add('pods', 'other', 90);
    samples.add('bare', 'other', 0);
    derive(samples, [half], NAMES);
    expect(samples.of('pods:bare', 'vl3')).toEqual([]);
    expect(samples.of('pods:bare', 'other')).toEqual([]);
  });
});

describe('the report', () => {
  test('names for each case our figure, the peers, the ratios and the spread', () => {
    expect(json(measured(), ROWS, NAMES)).toEqual({
      tcp1: {
        unit: 'Mbit/s',
        better: 'more',
        vl3: 120,
        peers: { other: 50 },
        ratio: { other: 2.4 },
        spread: { vl3: [100, 900], other: [40, 60] },
      },
      rtt: {
        unit: 'ms',
        better: 'less',
        vl3: 0.5,
        peers: { other: 0 },
        ratio: { other: null },
        spread: { vl3: [0.5, 0.5], other: [0, 0] },
      },
    });
  });

  test('says null of what was not measured of us', () => {
    const samples = new Samples();
    samples.add('tcp1', 'other', 50);
    expect(json(samples, ROWS.slice(0, 1), NAMES)).toMatchObject({
      tcp1: { vl3: null, ratio: { other: null } },
    });
  });

  test('is a table with a ratio to each of the others, and says where less is better', () => {
    const lines = table(measured(), ROWS, NAMES).split('\n');
    expect(lines[0]).toMatch(/^case +unit +vl3 +other +limit +vl3 : other +vl3 : limit$/);
    expect(lines[1]).toMatch(/^tcp1 +Mbit\/s +120 \(100-900\) +50.00 \(40.00-60.00\) +2.40$/);
    expect(lines[2]).toMatch(/^rtt +ms, less is better +0.50 +0.00$/);
  });
});
