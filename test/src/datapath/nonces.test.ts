// The counters that egress seals with, as the AEAD gets them: each once, in order, and none past the last.

import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { type Aead, createAead } from '../../../src/datapath/aead.ts';
import {
  Counters,
  createCounterMemory,
  EGRESS_COUNTERS,
  readCounts,
} from '../../../src/datapath/counters.ts';
import { Egress } from '../../../src/datapath/egress.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { Outbox } from '../../../src/datapath/outbox.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import { warmUpEgress } from '../../../src/datapath/warm-up.ts';
import { DATAGRAM_LENGTH, EVENT_LENGTH, type WorkerOptions } from '../../../src/datapath/worker-protocol.ts';
import type { Arena } from '../../../src/ffi/memory.ts';

const SPARE = 128 << 10;
/** Of the one session that the warm-up has. */
const SLOT = 0;
const LIMIT = 2 ** 53 - 2 ** 13;

const options = (): WorkerOptions => ({
  port: new MessageChannel().port1,
  memory: createSharedMemory(4, 4),
  counters: createCounterMemory(EGRESS_COUNTERS),
  wakeFd: -1,
  udp: { port: 0, v4: -1, v6: -1, offloads: { segmentation: true, coalescing: true } },
  aeadTier: 'openssl-low-level',
  events: createRing(EVENT_LENGTH, 4),
  extra: createRing(DATAGRAM_LENGTH, 4),
});

/** Sends the warm-up's packets, bulk and small, through an egress whose session has sealed `used` messages before. */
const sendAll = (used: number) => {
  const sealed: number[] = [];
  let packets = 0;
  let counter = 0;
  const create = (arena: Arena, sandbox: WorkerOptions): Egress => {
    const aead = createAead(arena);
    const watched: Aead = {
      tier: aead.tier,
      open: (...of) => aead.open(...of),
      seal: (key, nonce, ...of) => {
        sealed.push(nonce);
        aead.seal(key, nonce, ...of);
      },
    };
    const state = new SharedState(sandbox.memory);
    state.setSendCounter(SLOT, used);
    const counters = new Counters(EGRESS_COUNTERS, sandbox.counters);
    class WatchedEgress extends Egress {
      override turn(): void {
        super.turn();
        packets = readCounts(EGRESS_COUNTERS, sandbox.counters).packets;
        counter = state.sendCounterOf(SLOT);
      }
    }
    return new WatchedEgress({
      arena,
      aead: watched,
      state,
      counters,
      outbox: new Outbox(arena, state, counters, sandbox.udp),
      poller: new Poller(arena, sandbox.wakeFd, 4),
      events: new EventSink(sandbox.events, sandbox.port),
      commands: new Ring(sandbox.extra),
      port: sandbox.port,
    });
  };
  warmUpEgress(options(), create, Egress.ARENA + Outbox.ARENA + SPARE);
  return { sealed, packets, counter };
};

test('each message is sealed with the counter after the last one, also where one packet becomes many', () => {
  const { sealed, packets, counter } = sendAll(7);
  expect(sealed.length).toBeGreaterThan(3000);
  expect(sealed).toEqual(Array.from({ length: sealed.length }, (_, i) => 7 + i));
  expect([packets, counter]).toEqual([sealed.length, 7 + sealed.length]);
});

test('past the last counter a session seals nothing, not even what is left of it by half', () => {
  const { sealed, counter } = sendAll(LIMIT - 30);
  // Bulk of 20 messages, then no more bulk fits; small ones use up the rest.
  expect(sealed).toEqual(Array.from({ length: 30 }, (_, i) => LIMIT - 30 + i));
  expect(counter).toBe(LIMIT);
  expect(sendAll(LIMIT).sealed).toEqual([]);
});
