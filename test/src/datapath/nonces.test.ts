// The counters that egress seals with, as the AEAD gets them: each once, in order, and none past the last.

import { expect, test } from 'vitest';
import { type Aead, createAead } from '../../../src/datapath/aead.ts';
import { Egress } from '../../../src/datapath/egress.ts';
import { EGRESS_ARENA } from '../../../src/datapath/loops.ts';
import { warmUpEgress } from '../../../src/datapath/warm-up.ts';
import type { WorkerOptions } from '../../../src/datapath/worker-protocol.ts';
import type { Arena } from '../../../src/ffi/memory.ts';
import { egressParts, workerOptions } from './sandboxed-egress.ts';

/** Of the warm-up's first session, which stays all the time. Its other one is renewed again and again. */
const SLOT = 0;
const FIRST = '1 0';
const LIMIT = 2 ** 32 - 2 ** 20;

/**
 * Sends the warm-up's packets, bulk and small, through an egress whose first session has sealed `used` messages before. Returns
 * the counters that were sealed with, by key.
 */
const sendAll = (used: number) => {
  const sealed = new Map<string, number[]>();
  let counter = 0;
  const create = (arena: Arena, sandbox: WorkerOptions): Egress => {
    const aead = createAead(arena);
    const watched: Aead = {
      tier: aead.tier,
      open: (...of) => aead.open(...of),
      seal: (key, nonce, ...of) => {
        const name = `${arena.bytes[key]} ${arena.bytes[key + 1]}`;
        const counters = sealed.get(name) ?? [];
        counters.push(nonce);
        sealed.set(name, counters);
        aead.seal(key, nonce, ...of);
      },
    };
    const parts = egressParts(arena, sandbox, watched);
    const { state } = parts;
    state.takeCounters(SLOT, used);
    class WatchedEgress extends Egress {
      override turn(timeoutMs?: number): void {
        super.turn(timeoutMs);
        counter = state.sendCounterOf(SLOT);
      }
    }
    return new WatchedEgress(parts);
  };
  warmUpEgress(workerOptions('egress'), create, EGRESS_ARENA);
  return { sealed, counter };
};

const from = (first: number, length: number): number[] => Array.from({ length }, (_, i) => first + i);

test('each message is sealed with the counter after the last one, also where one packet becomes many and after a rekey', () => {
  const { sealed, counter } = sendAll(7);
  const first = sealed.get(FIRST) ?? [];
  expect(first.length).toBeGreaterThan(500);
  expect(first).toEqual(from(7, first.length));
  expect(counter).toBe(7 + first.length);
  const others = [...sealed].filter(([key]) => key !== FIRST);
  expect(others.length).toBeGreaterThan(5);
  for (const [key, counters] of others) expect([key, counters]).toEqual([key, from(0, counters.length)]);
});

test('past the last counter a session seals nothing, not even what is left of it by half', () => {
  const { sealed, counter } = sendAll(LIMIT - 30);
  // Bulk of 20 messages, then no more bulk fits; small ones use up the rest.
  expect(sealed.get(FIRST)).toEqual(from(LIMIT - 30, 30));
  expect(counter).toBe(LIMIT);
  expect(sendAll(LIMIT).sealed.get(FIRST)).toBeUndefined();
});
