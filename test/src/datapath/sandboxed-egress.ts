// An egress of its own in the warm-up's sandbox, so that a test sees what it seals.

import { MessageChannel } from 'node:worker_threads';
import { type Aead, createAead, FASTEST } from '../../../src/datapath/aead.ts';
import { quietOn } from '../../../src/datapath/busy-poll.ts';
import {
  Counters,
  createCounterMemory,
  EGRESS_COUNTERS,
  INGRESS_COUNTERS,
} from '../../../src/datapath/counters.ts';
import type { EgressParts } from '../../../src/datapath/egress.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createHandOver } from '../../../src/datapath/hand-over.ts';
import { Outbox } from '../../../src/datapath/outbox.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSharedMemory, SharedState } from '../../../src/datapath/shared-state.ts';
import {
  COMMAND_LENGTH,
  DATAGRAM_LENGTH,
  EVENT_LENGTH,
  type WorkerKind,
  type WorkerOptions,
} from '../../../src/datapath/worker-protocol.ts';
import type { Arena } from '../../../src/ffi/memory.ts';

/** Of the worker that a sandbox stands for. */
export const workerOptions = (kind: WorkerKind, marksSparse = true): WorkerOptions => ({
  kind,
  pair: 0,
  handOver: createHandOver([-1]),
  port: new MessageChannel().port1,
  memory: createSharedMemory(4, 4),
  counters: { egress: createCounterMemory(EGRESS_COUNTERS), ingress: createCounterMemory(INGRESS_COUNTERS) },
  wakeFd: -1,
  udp: { port: 0, v4: -1, v6: -1, offloads: { segmentation: true, coalescing: true } },
  aeadTier: FASTEST,
  marksSparse,
  quietMs: quietOn(),
  events: createRing(EVENT_LENGTH, 4),
  commands: createRing(COMMAND_LENGTH, 4),
  datagrams: createRing(DATAGRAM_LENGTH, 4),
});

export const egressParts = (
  arena: Arena,
  sandbox: WorkerOptions,
  aead: Aead = createAead(arena),
): EgressParts => {
  const state = new SharedState(sandbox.memory);
  const counters = new Counters(EGRESS_COUNTERS, sandbox.counters.egress);
  return {
    ...{ pair: 0, arena, aead, state, counters },
    outbox: new Outbox(arena, state, counters, sandbox.udp),
    poller: new Poller(arena, sandbox.wakeFd, 4),
    events: new EventSink(sandbox.events, sandbox.port),
    commands: new Ring(sandbox.commands),
    marksSparse: sandbox.marksSparse,
    port: sandbox.port,
  };
};
