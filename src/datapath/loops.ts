// What worker threads run, put together from what main gives them: one direction, or both.

import type { Arena } from '../ffi/memory.ts';
import { createAead } from './aead.ts';
import { BusyPoll } from './busy-poll.ts';
import { Counters, EGRESS_COUNTERS, INGRESS_COUNTERS } from './counters.ts';
import { Duplex } from './duplex.ts';
import { Egress } from './egress.ts';
import { EventSink } from './event-sink.ts';
import { Ingress, socketsOfIngress } from './ingress.ts';
import { Outbox } from './outbox.ts';
import { Poller } from './poller.ts';
import { Ring } from './ring.ts';
import { SharedState } from './shared-state.ts';
import { MAX_DEVICES, type WorkerOptions } from './worker-protocol.ts';

const SPARE = 128 << 10;

/** Bytes that an arena has to have. */
export const EGRESS_ARENA = Egress.ARENA + Outbox.ARENA + SPARE;
export const INGRESS_ARENA = Ingress.ARENA + SPARE;
export const DUPLEX_ARENA = EGRESS_ARENA + INGRESS_ARENA;

/** What a thread of either direction shares with the one of the other, where one thread has both. */
interface Common {
  readonly poller: Poller;
  readonly events: EventSink;
}

const common = (arena: Arena, options: WorkerOptions, sockets: readonly number[]): Common => ({
  poller: new Poller(arena, options.wakeFd, MAX_DEVICES, sockets),
  events: new EventSink(options.events, options.port),
});

export const egressOf = (
  arena: Arena,
  options: WorkerOptions,
  shared = common(arena, options, []),
): Egress => {
  const state = new SharedState(options.memory);
  const counters = new Counters(EGRESS_COUNTERS, options.counters.egress);
  return new Egress({
    pair: options.pair,
    arena,
    aead: createAead(arena, options.aeadTier),
    state,
    counters,
    outbox: new Outbox(arena, state, counters, options.udp),
    ...shared,
    commands: new Ring(options.commands),
    marksSparse: options.marksSparse,
    port: options.port,
  });
};

export const ingressOf = (
  arena: Arena,
  options: WorkerOptions,
  shared = common(arena, options, socketsOfIngress(options.udp)),
): Ingress =>
  new Ingress({
    pair: options.pair,
    arena,
    aead: createAead(arena, options.aeadTier),
    state: new SharedState(options.memory),
    counters: new Counters(INGRESS_COUNTERS, options.counters.ingress),
    udp: options.udp,
    ...shared,
    datagrams: new Ring(options.datagrams),
    handOver: options.handOver,
    port: options.port,
  });

export const duplexOf = (arena: Arena, options: WorkerOptions): Duplex => {
  const shared = common(arena, options, socketsOfIngress(options.udp));
  return new Duplex({
    pair: options.pair,
    egress: egressOf(arena, options, shared),
    ingress: ingressOf(arena, options, shared),
    state: new SharedState(options.memory),
    udp: options.udp,
    busyPoll: new BusyPoll(shared.poller, options.quietMs),
    ...shared,
    port: options.port,
  });
};
