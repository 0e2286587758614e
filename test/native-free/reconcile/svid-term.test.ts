import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import type { Moment } from '../../../native-free/moment.ts';
import { clockProblem, SvidTerm } from '../../../native-free/reconcile/svid-term.ts';
import { AgentState } from '../../../src/agent/state.ts';

const WALL = 1_900_000_000_000;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const at = (boot: number, jump = 0, bootId = 'first'): Moment => ({ bootId, boot, wall: WALL + boot + jump });
/** Issued at WALL for seven days, backdated by five minutes. */
const svid = { notBefore: WALL - 300_000, notAfter: WALL + 7 * DAY };

let directory: string;
let state: AgentState;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3-svid-'));
  state = new AgentState(directory);
});
afterEach(() => {
  state[Symbol.dispose]();
  rmSync(directory, { recursive: true, force: true });
});

test('an SVID is due for renewal after 8 to 12 % of its life, and holds to its end', () => {
  const term = new SvidTerm(svid, state, at(0), Math.random);
  expect(term.isDue(at(0.08 * 7 * DAY - 1))).toBe(false);
  expect(term.isDue(at(0.12 * 7 * DAY))).toBe(true);
  expect(term.leftMs(at(6 * DAY))).toBe(DAY);
});

test('however the wall clock jumps and the agent restarts, what is left of it stays', () => {
  new SvidTerm(svid, state, at(0), Math.random);
  for (const jump of [-30 * DAY, 30 * DAY]) {
    const again = new SvidTerm(svid, state, at(DAY, jump), Math.random);
    expect(again.leftMs(at(2 * DAY, -jump))).toBe(5 * DAY);
  }
});

test('after a reboot the wall clock counts', () => {
  new SvidTerm(svid, state, at(0), Math.random);
  expect(
    new SvidTerm(svid, state, at(1000, 2 * DAY, 'second'), Math.random).leftMs(at(1000, 0, 'second')),
  ).toBe(5 * DAY - 1000);
});

test('one that came due while its machine was off is due at once', () => {
  new SvidTerm(svid, state, at(0), Math.random);
  expect(new SvidTerm(svid, state, at(1000, DAY, 'second'), Math.random).isDue(at(1000, DAY, 'second'))).toBe(
    true,
  );
});

test('a renewed one runs from when the request was sent, for as long as the registry says', () => {
  const term = new SvidTerm(svid, state, at(0), Math.random);
  const renewed = { notBefore: WALL + DAY - 300_000, notAfter: WALL + DAY + 70_000 };
  term.renewed(renewed, 70_000, at(DAY));
  expect(term.leftMs(at(DAY + 10_000))).toBe(60_000);
  expect(term.isDue(at(DAY + 9_000))).toBe(true);
  term.failed(at(DAY + 9_000));
  expect(term.isDue(at(DAY + 9_300))).toBe(false);
  expect(term.isDue(at(DAY + 9_350))).toBe(true);
  expect(new SvidTerm(renewed, state, at(DAY + 20_000, 9 * DAY), Math.random).leftMs(at(DAY + 20_000))).toBe(
    50_000,
  );
});

test('a disk that is full at the start stops nothing, and what could not be written is written when there is room', () => {
  const put = vi.spyOn(state, 'put').mockImplementation(() => {
    throw new Vl3Error('failed-precondition', 'the disk is full');
  });
  const term = new SvidTerm(svid, state, at(0), Math.random);
  expect(term.leftMs(at(DAY))).toBe(6 * DAY);
  expect(term.isDue(at(HOUR))).toBe(false);
  put.mockRestore();
  expect(term.isDue(at(2 * HOUR))).toBe(false);
  expect(new SvidTerm(svid, state, at(DAY, 30 * DAY), Math.random).leftMs(at(2 * DAY))).toBe(5 * DAY);
});

test('one that has expired when it is first seen has expired', () => {
  expect(new SvidTerm(svid, state, at(8 * DAY), Math.random).leftMs(at(8 * DAY))).toBeLessThanOrEqual(0);
});

test('a clock by which a certificate does not hold is named with what it says and what to do', () => {
  expect(clockProblem(svid, WALL)).toBeUndefined();
  expect(clockProblem(svid, WALL - DAY)).toMatch(
    /the clock of this machine says 2030-03-16T.*set the clock right/,
  );
  expect(clockProblem(svid, WALL + 8 * DAY)).toMatch(/the clock of this machine says/);
});
