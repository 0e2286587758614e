// The counters that egress seals with, as the AEAD gets them: each once, in order, and none past the last.

import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { type Aead, createAead } from '../../../src/datapath/aead.ts';
import { Counters, createCounterMemory, EGRESS_COUNTERS } from '../../../src/datapath/counters.ts';
import { Egress } from '../../../src/datapath/egress.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createHandOver } from '../../../src/datapath/hand-over.ts';
import { Outbox } from '../../../src/datapath/outbox.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import { warmUpEgress } from '../../../src/datapath/warm-up.ts';
import { DATAGRAM_LENGTH, EVENT_LENGTH, type WorkerOptions } from '../../../src/datapath/worker-protocol.ts';
import type { Arena } from '../../../src/ffi/memory.ts';

const SPARE = 128 << 10;
/** Of the warm-up's first session, which stays all the time. Its other one is renewed again and again. */
const SLOT = 0;
const FIRST = '1 0';
const LIMIT = 2 ** 32 - 2 ** 20;

const options = (): WorkerOptions => ({
  pair: 0,
  handOver: createHandOver([-1]),
  port: new MessageChannel().port1,
  memory: createSharedMemory(4, 4),
  counters: createCounterMemory(EGRESS_COUNTERS),
  wakeFd: -1,
  udp: { port: 0, v4: -1, v6: -1, offloads: { segmentation: true, coalescing: true } },
  aeadTier: 'openssl-low-level',
  marksSparse: true,
  events: createRing(EVENT_LENGTH, 4),
  extra: createRing(DATAGRAM_LENGTH, 4),
});

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
    const state = new SharedState(sandbox.memory);
    state.takeCounters(SLOT, used);
    const counters = new Counters(EGRESS_COUNTERS, sandbox.counters);
    class WatchedEgress extends Egress {
      override turn(timeoutMs?: number): void {
        super.turn(timeoutMs);
        counter = state.sendCounterOf(SLOT);
      }
    }
    return new WatchedEgress({
      pair: 0,
      arena,
      aead: watched,
      state,
      counters,
      outbox: new Outbox(arena, state, counters, sandbox.udp),
      poller: new Poller(arena, sandbox.wakeFd, 4),
      events: new EventSink(sandbox.events, sandbox.port),
      commands: new Ring(sandbox.extra),
      marksSparse: true,
      port: sandbox.port,
    });
  };
  warmUpEgress(options(), create, Egress.ARENA + Outbox.ARENA + SPARE);
  return { sealed, counter };
};

const from = (first: number, length: number): number[] => Array.from({ length }, (_, i) => first + i);

test('each message is sealed with the counter after the last one, also where one packet becomes many and after a rekey', () => {
  const { sealed, counter } = sendAll(7);
  const first = sealed.get(FIRST) ?? [];
  expect(first.length).toBeGreaterThan(1000);
  expect(first).toEqual(from(7, first.length));
  expect(counter).toBe(7 + first.length);
  const others = [...sealed].filter(([key]) => key !== FIRST);
  expect(others.length).toBeGreaterThan(10);
  for (const [key, counters] of others) expect([key, counters]).toEqual([key, from(0, counters.length)]);
});

test('past the last counter a session seals nothing, not even what is left of it by half', () => {
  const { sealed, counter } = sendAll(LIMIT - 30);
  // Bulk of 20 messages, then no more bulk fits; small ones use up the rest.
  expect(sealed.get(FIRST)).toEqual(from(LIMIT - 30, 30));
  expect(counter).toBe(LIMIT);
  expect(sendAll(LIMIT).sealed.get(FIRST)).toBeUndefined();
});
