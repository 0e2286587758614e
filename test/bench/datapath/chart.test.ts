// The plots: what is drawn stays inside its frame, and names are only ever text.

import { expect, test } from 'vitest';
import { drawChart, niceStep } from './chart.ts';

const chart = {
  title: 'a < b & c',
  x: 'size',
  y: 'Mbit/s',
  lines: [
    { name: '<vl3>', points: [[0, 0] as const, [700, 2350] as const, [1400, 9100] as const] },
    { name: 'other', points: [[64, 10] as const] },
  ],
};

test('a line has a mark for each of its points, inside the frame', () => {
  const marks = [...drawChart(chart).matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)];
  expect(marks).toHaveLength(4);
  for (const [, x, y] of marks) {
    expect(Number(x)).toBeGreaterThanOrEqual(80);
    expect(Number(x)).toBeLessThanOrEqual(640);
    expect(Number(y)).toBeGreaterThanOrEqual(50);
    expect(Number(y)).toBeLessThanOrEqual(420);
  }
});

test('what is larger is higher up and further to the right', () => {
  const [low, middle, high] = [...drawChart(chart).matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)];
  expect(Number(middle?.[1])).toBeGreaterThan(Number(low?.[1]));
  expect(Number(high?.[1])).toBeGreaterThan(Number(middle?.[1]));
  expect(Number(high?.[2])).toBeLessThan(Number(middle?.[2]));
});

test('a name is text, never markup', () => {
  const svg = drawChart(chart);
  expect(svg).toContain('&lt;vl3&gt;');
  expect(svg).toContain('a &lt; b &amp; c');
});

test('steps of an axis are round numbers', () => {
  expect([0.013, 3, 7, 21, 240, 251].map(niceStep)).toEqual([0.02, 5, 10, 25, 250, 500]);
});
