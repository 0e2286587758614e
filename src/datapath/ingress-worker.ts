// The ingress thread: takes what main gives it, builds its parts, and runs until it is told to stop.

import { workerData } from 'node:worker_threads';
import { Arena } from '../ffi/memory.ts';
import { setSlice } from '../ffi/scheduling.ts';
import { createAead } from './aead.ts';
import { Counters, INGRESS_COUNTERS } from './counters.ts';
import { EventSink } from './event-sink.ts';
import { Ingress } from './ingress.ts';
import { Poller } from './poller.ts';
import { Ring } from './ring.ts';
import { SharedState } from './shared-state.ts';
import { warmUpIngress } from './warm-up.ts';
import { SLICE_NANOSECONDS, type WorkerMessage, type WorkerOptions } from './worker-protocol.ts';

const SPARE = 128 << 10;

const ARENA = Ingress.ARENA + SPARE;

const create = (arena: Arena, options: WorkerOptions): Ingress =>
  new Ingress({
    pair: options.pair,
    arena,
    aead: createAead(arena, options.aeadTier),
    state: new SharedState(options.memory),
    counters: new Counters(INGRESS_COUNTERS, options.counters),
    udp: options.udp,
    poller: new Poller(arena, options.wakeFd, Ingress.SOCKETS),
    events: new EventSink(options.events, options.port),
    datagrams: new Ring(options.extra),
    handOver: options.handOver,
    port: options.port,
  });

const start = (options: WorkerOptions): void => {
  warmUpIngress(options, create, ARENA);
  setSlice(SLICE_NANOSECONDS);
  const arena = new Arena(ARENA, true);
  const ingress = create(arena, options);
  const ready: WorkerMessage = { kind: 'ready', aeadTier: ingress.aeadTier };
  options.port.postMessage(ready);
  ingress.run();
  options.port.close();
  arena.unmap();
};

start(workerData);
