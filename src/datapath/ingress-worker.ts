// The ingress thread: takes what main gives it, builds its parts, and runs until it is told to stop.

import { workerData } from 'node:worker_threads';
import { Arena } from '../ffi/memory.ts';
import { createAead } from './aead.ts';
import { Counters, INGRESS_COUNTERS } from './counters.ts';
import { EventSink } from './event-sink.ts';
import { Ingress } from './ingress.ts';
import { Poller } from './poller.ts';
import { Ring } from './ring.ts';
import { SharedState } from './shared-state.ts';
import type { WorkerMessage, WorkerOptions } from './worker-protocol.ts';

const SPARE = 128 << 10;

const start = (options: WorkerOptions): void => {
  const { port } = options;
  const arena = new Arena(Ingress.ARENA + SPARE);
  const aead = createAead(arena, options.aeadTier);
  const ingress = new Ingress({
    arena,
    aead,
    state: new SharedState(options.memory),
    counters: new Counters(INGRESS_COUNTERS, options.counters),
    udp: options.udp,
    poller: new Poller(arena, options.wakeFd, 2),
    events: new EventSink(options.events, port),
    datagrams: new Ring(options.extra),
    port,
  });
  const ready: WorkerMessage = { kind: 'ready', aeadTier: aead.tier };
  port.postMessage(ready);
  ingress.run();
  port.close();
  arena.unmap();
};

start(workerData);
