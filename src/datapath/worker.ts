// A worker thread: warms up, says that it is ready, and runs until it is told to stop.

import { workerData } from 'node:worker_threads';
import { unloadIpsecMb } from '../ffi/ipsec-mb.ts';
import { Arena } from '../ffi/memory.ts';
import { setSlice } from '../ffi/scheduling.ts';
import type { Duplex } from './duplex.ts';
import type { Egress } from './egress.ts';
import type { Ingress } from './ingress.ts';
import { DUPLEX_ARENA, duplexOf, EGRESS_ARENA, egressOf, INGRESS_ARENA, ingressOf } from './loops.ts';
import { warmUpEgress, warmUpIngress } from './warm-up.ts';
import { SLICE_NANOSECONDS, type WorkerMessage, type WorkerOptions } from './worker-protocol.ts';

const build = (options: WorkerOptions, arena: Arena): Egress | Ingress | Duplex => {
  if (options.kind === 'egress') return egressOf(arena, options);
  return options.kind === 'ingress' ? ingressOf(arena, options) : duplexOf(arena, options);
};

const ARENAS = { egress: EGRESS_ARENA, ingress: INGRESS_ARENA, duplex: DUPLEX_ARENA };

const warmUp = (options: WorkerOptions): readonly object[] => {
  if (options.kind === 'egress') return warmUpEgress(options, egressOf, EGRESS_ARENA);
  if (options.kind === 'ingress') return warmUpIngress(options, ingressOf, INGRESS_ARENA);
  return [
    ...warmUpEgress(options, duplexOf, DUPLEX_ARENA),
    ...warmUpIngress(options, duplexOf, DUPLEX_ARENA),
  ];
};

/** For as long as the thread lives. */
const kept: object[] = [];

const start = (options: WorkerOptions): void => {
  kept.push(...warmUp(options));
  setSlice(SLICE_NANOSECONDS);
  const arena = new Arena(ARENAS[options.kind], true);
  const loop = build(options, arena);
  const ready: WorkerMessage = { kind: 'ready', aeadTier: loop.aeadTier };
  options.port.postMessage(ready);
  loop.run();
  options.port.close();
  arena.unmap();
  unloadIpsecMb();
};

start(workerData);
