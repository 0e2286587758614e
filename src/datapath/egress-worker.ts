// The egress thread: takes what main gives it, builds its parts, and runs until it is told to stop.

import { workerData } from 'node:worker_threads';
import { Arena } from '../ffi/memory.ts';
import { setSlice } from '../ffi/scheduling.ts';
import { createAead } from './aead.ts';
import { Counters, EGRESS_COUNTERS } from './counters.ts';
import { Egress } from './egress.ts';
import { EventSink } from './event-sink.ts';
import { Outbox } from './outbox.ts';
import { Poller } from './poller.ts';
import { Ring } from './ring.ts';
import { SharedState } from './shared-state.ts';
import { warmUpEgress } from './warm-up.ts';
import { MAX_DEVICES, SLICE_NANOSECONDS, type WorkerMessage, type WorkerOptions } from './worker-protocol.ts';

const SPARE = 128 << 10;

const ARENA = Egress.ARENA + Outbox.ARENA + SPARE;

const create = (arena: Arena, options: WorkerOptions): Egress => {
  const state = new SharedState(options.memory);
  const counters = new Counters(EGRESS_COUNTERS, options.counters);
  return new Egress({
    pair: options.pair,
    arena,
    aead: createAead(arena, options.aeadTier),
    state,
    counters,
    outbox: new Outbox(arena, state, counters, options.udp),
    poller: new Poller(arena, options.wakeFd, MAX_DEVICES),
    events: new EventSink(options.events, options.port),
    commands: new Ring(options.extra),
    marksSparse: options.marksSparse,
    port: options.port,
  });
};

const start = (options: WorkerOptions): void => {
  warmUpEgress(options, create, ARENA);
  setSlice(SLICE_NANOSECONDS);
  const arena = new Arena(ARENA, true);
  const egress = create(arena, options);
  const ready: WorkerMessage = { kind: 'ready', aeadTier: egress.aeadTier };
  options.port.postMessage(ready);
  egress.run();
  options.port.close();
  arena.unmap();
};

start(workerData);
