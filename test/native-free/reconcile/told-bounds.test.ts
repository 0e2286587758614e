import { describe, expect, test } from 'vitest';
import { MAX_TOLD_BYTES, MAX_TOLD_NODES, ToldBounds } from '../../../native-free/reconcile/told-bounds.ts';

const said = (record?: number, names?: number, grant?: number) => ({ record, names, grant });

describe('what a partner tells', () => {
  test('is taken, whatever is said again of those that are known', () => {
    const bounds = new ToldBounds();
    for (let round = 0; round < 3; round++)
      for (let i = 0; i < MAX_TOLD_NODES; i++)
        expect(bounds.take('red@p.example', `n${i}`, said(1500, 200, 600))).toBe(true);
    expect(bounds.problem).toBeUndefined();
  });

  test('of one node too many, on whichever of its networks, is left out, and said', () => {
    const bounds = new ToldBounds();
    for (let i = 0; i < MAX_TOLD_NODES; i++) bounds.take(i % 2 === 0 ? 'red' : 'green', `n${i}`, said(1));
    expect(bounds.take('blue', 'late', said(1))).toBe(false);
    expect(bounds.take('red', 'n0', said(2))).toBe(true);
    expect(bounds.problem).toMatch(/more than this node keeps of a partner \(4096 nodes, 32 MiB\)/);
    bounds.forget('green');
    expect(bounds.take('blue', 'late', said(1))).toBe(true);
  });

  test('of nodes that come and go takes no place for good', () => {
    const bounds = new ToldBounds();
    for (let i = 0; i < 3 * MAX_TOLD_NODES; i++) {
      expect(bounds.take('red', `n${i}`, said(1500, 200, 600))).toBe(true);
      bounds.buried('red', `n${i}`);
      bounds.buried('red', `n${i}`);
    }
    expect(bounds.take('red', 'x'.repeat(400), said(1))).toBe(false);
  });

  test('in too many bytes is left out, until some are gone', () => {
    const bounds = new ToldBounds();
    const half = MAX_TOLD_BYTES / 2;
    expect(bounds.take('red', 'a', said(half))).toBe(true);
    expect(bounds.take('red', 'b', said(undefined, undefined, half))).toBe(true);
    expect(bounds.take('red', 'c', said(1))).toBe(false);
    expect(bounds.take('red', 'b', said(undefined, 1))).toBe(false);
    // Less is always taken.
    expect(bounds.take('red', 'b', said(undefined, undefined, half - 10))).toBe(true);
    expect(bounds.take('red', 'c', said(10))).toBe(true);
    bounds.buried('red', 'a');
    expect(bounds.take('red', 'd', said(half))).toBe(true);
    bounds.buried('red', 'a');
    expect(bounds.take('red', 'e', said(1))).toBe(false);
  });
});
