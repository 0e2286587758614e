// Both directions of a pair on one thread, in turns: what came off the sockets, then what came off the TUNs, some of each. Where
// there are few processors, two threads would take turns all the same, at the price of the kernel's changing between them. Here
// no send may block, or nothing would be received meanwhile: while a socket has no room, the TUNs keep what they have.

import type { MessagePort } from 'node:worker_threads';
import type { AeadTier } from './aead.ts';
import type { BusyPoll } from './busy-poll.ts';
import { takeConfiguration } from './device-table.ts';
import type { Egress } from './egress.ts';
import type { EventSink } from './event-sink.ts';
import type { Ingress } from './ingress.ts';
import type { Poller } from './poller.ts';
import { NO_SLOT, type SharedState, workerNumber } from './shared-state.ts';
import type { SocketPair } from './udp.ts';

/** What egress may cost before it is the other direction's turn, in bytes. */
const COST_A_TURN = 2 << 20;

export interface DuplexParts {
  /** Of workers, from 0. */
  readonly pair: number;
  /** These have the same poller, events and port. */
  readonly egress: Egress;
  readonly ingress: Ingress;
  readonly poller: Poller;
  readonly busyPoll: BusyPoll;
  readonly udp: SocketPair;
  readonly events: EventSink;
  readonly state: SharedState;
  readonly port: MessagePort;
}

export class Duplex {
  readonly #parts: DuplexParts;
  /** To main it is the pair's ingress worker. */
  readonly #number: number;

  constructor(parts: DuplexParts) {
    this.#parts = parts;
    this.#number = workerNumber('ingress', parts.pair);
  }

  get aeadTier(): AeadTier {
    return this.#parts.egress.aeadTier;
  }

  /** Until it is told to stop. */
  run(): void {
    const { state, egress, ingress, poller } = this.#parts;
    while (!state.stopped) this.turn();
    egress.wipe();
    ingress.wipe();
    poller.close();
  }

  /** Waits until there is something to do, or for so long, and does it. */
  turn(timeoutMs?: number): void {
    const { state, poller, busyPoll, egress, ingress } = this.#parts;
    if (timeoutMs === 0 || !busyPoll.wait())
      poller.wait(egress.isBehind && !poller.isHeldBack ? 0 : (timeoutMs ?? ingress.patience));
    state.enter(this.#number);
    if (poller.takeWakeup()) {
      egress.settle();
      this.configure();
      egress.obey();
      ingress.wipeIfRetired();
    }
    const answering = ingress.receive();
    // Who is held back sees no TUN: it has to ask for room all the same.
    const forwards = (egress.look(answering) || poller.isHeldBack) && this.#mayForward();
    if (forwards) egress.forward(COST_A_TURN);
    const hasSentOne = forwards && egress.hasSentOne && answering === NO_SLOT;
    busyPoll.turned(Math.max(egress.workedAt, ingress.workedAt), hasSentOne);
    state.leave(this.#number);
    ingress.report();
  }

  /** One packet at a time fills no buffer. */
  #mayForward(): boolean {
    const { egress, poller, udp } = this.#parts;
    return (egress.isIdle && !poller.isHeldBack) || (poller.hasRoom(udp.v4) && poller.hasRoom(udp.v6));
  }

  /** Takes over configuration that main has sent. */
  configure(): void {
    const { port, state, events, egress, ingress } = this.#parts;
    takeConfiguration(port, (configuration) => {
      egress.apply(configuration);
      ingress.apply(configuration);
      state.setSeen(this.#number, configuration.sequence);
      events.wakeLater();
    });
  }

  /** Treats `datagrams`, all of `size` bytes but the last, as if they had been received. Borrows them. */
  inject(datagrams: Uint8Array, size: number): void {
    this.#parts.ingress.inject(datagrams, size);
  }
}
