// When a worker wakes the main thread: at once for what cannot wait, once for all that can, and never twice before it has woken.

import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createRing, Ring, type RingMemory } from '../../../src/datapath/ring.ts';
import { EVENT_LENGTH } from '../../../src/datapath/worker-protocol.ts';

const NOW = 1000;

let memory: RingMemory;
let channel: MessageChannel;
let events: EventSink;

beforeEach(() => {
  memory = createRing(EVENT_LENGTH, 8);
  channel = new MessageChannel();
  events = new EventSink(memory, channel.port1);
});
afterEach(() => channel.port1.close());

/** How often main was woken since the last time; it looks at the ring, as it does when it wakes. */
const wakeUps = (): number => {
  let count = 0;
  while (receiveMessageOnPort(channel.port2)) count += 1;
  if (count > 0) new Ring(memory).clearWakeUp();
  return count;
};

test('an event wakes main when the batch ends, and not again before main has woken', () => {
  events.handshakeNeeded(1);
  expect(wakeUps()).toBe(0);
  events.flush(NOW);
  events.handshakeNeeded(2);
  events.flush(NOW);
  expect(wakeUps()).toBe(1);
  events.flush(NOW);
  expect(wakeUps()).toBe(0);
  events.handshakeNeeded(3);
  events.flush();
  expect(wakeUps()).toBe(1);
});

test('what may wait wakes main at the first time that was named, once, and the worker sleeps no longer than that', () => {
  expect([events.isWakePlanned, events.patience(NOW)]).toEqual([false, undefined]);
  events.wakeBy(NOW + 5);
  events.wakeBy(NOW + 9);
  expect([events.isWakePlanned, events.patience(NOW)]).toEqual([true, 5]);
  expect([events.patience(NOW + 4.2), events.patience(NOW + 7)]).toEqual([1, 0]);
  for (const now of [NOW, NOW + 4.9]) events.flush(now);
  expect(wakeUps()).toBe(0);
  for (const now of [NOW + 5, NOW + 6, NOW + 100]) events.flush(now);
  expect(wakeUps()).toBe(1);
  expect(events.isWakePlanned).toBe(false);
});

test('an event that cannot wait takes what can with it', () => {
  events.wakeBy(NOW + 5);
  events.keypairConfirmed(1, 7);
  events.flush(NOW);
  expect(wakeUps()).toBe(1);
  events.flush(NOW + 10);
  expect(wakeUps()).toBe(0);
});
