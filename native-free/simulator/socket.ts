// The UDP port of a simulated agent: datagrams find their tunnel, handshakes wait in a queue that is worked off in turns
// so that a flood puts the port under load, and the tunnels tick several times a second while anything moves, and else
// when their next deadline comes.

import type { Endpoint } from '../device/data-plane.ts';
import { HANDSHAKE_QUEUE_LENGTH } from '../noise/constants.ts';
import { messageType, TRANSPORT_TYPE, Transport } from '../wire/message.ts';
import type { AgentContext } from './agent-context.ts';
import type { SimulatedMembership } from './membership.ts';
import type { Timer } from './scheduler.ts';

const TICK_MS = 250;
/** Handshakes worked off at a time, and the pause before the next ones. */
const TURN = 32;
const TURN_MS = 10;

interface Waiting {
  readonly datagram: Uint8Array;
  readonly source: Endpoint;
}

export class Socket {
  readonly #context: AgentContext;
  readonly #memberships: () => readonly SimulatedMembership[];
  readonly #handshakes: Waiting[] = [];
  #isWorking = false;
  #tick: { readonly at: number; readonly timer: Timer } | undefined;

  constructor(context: AgentContext, memberships: () => readonly SimulatedMembership[]) {
    this.#context = context;
    this.#memberships = memberships;
  }

  receive(datagram: Uint8Array, source: Endpoint): void {
    const { hooks, time, counters } = this.#context;
    if (messageType(datagram) !== TRANSPORT_TYPE) {
      if (this.#handshakes.length >= HANDSHAKE_QUEUE_LENGTH) {
        counters.add('handshakes dropped by a full queue');
        return;
      }
      this.#handshakes.push({ datagram, source });
      if (!this.#isWorking) this.#work();
      return;
    }
    const receiver = Transport.parse(datagram)?.receiver;
    if (receiver === undefined) {
      counters.add('malformed datagrams received');
      return;
    }
    for (const { tunnel } of this.#memberships()) {
      if (tunnel.plane.keypair(receiver) === undefined) continue;
      hooks.beforeReceive?.(tunnel, datagram, source);
      tunnel.fromOutside(datagram, source, time());
      this.stir();
      return;
    }
  }

  send(network: string, packet: Uint8Array): void {
    this.#memberships()
      .find((one) => one.network === network)
      ?.tunnel.fromInside(packet, this.#context.time());
    this.stir();
  }

  /** Something moved, or may have to: the tunnels are looked at soon. */
  stir(): void {
    this.#tickBy(this.#context.time().now + TICK_MS);
  }

  #work(): void {
    const { port, time, later, counters } = this.#context;
    this.#isWorking = true;
    const now = time();
    for (let i = 0; i < TURN; i++) {
      const next = this.#handshakes.shift();
      if (next === undefined) break;
      const waiting = this.#handshakes.length;
      const received = port.receive(next.datagram, next.source, now.now, now.wallclock, waiting);
      if (port.isUnderLoad(now.now)) counters.add('handshakes received under load');
      if (received === undefined) continue;
      const { device, actions } = received;
      this.#memberships()
        .find(({ tunnel }) => tunnel.device === device)
        ?.tunnel.carryOut(actions, now);
    }
    this.stir();
    if (this.#handshakes.length === 0) this.#isWorking = false;
    else later(TURN_MS, 'works off handshakes', () => this.#work());
  }

  #tickBy(at: number): void {
    if (this.#tick !== undefined && this.#tick.at <= at) return;
    this.#tick?.timer.cancel();
    const { later, time } = this.#context;
    const timer = later(Math.max(0, at - time().now), 'ticks', () => {
      this.#tick = undefined;
      this.#tickAll();
    });
    this.#tick = { at, timer };
  }

  #tickAll(): void {
    const now = this.#context.time();
    let next = Number.POSITIVE_INFINITY;
    for (const { tunnel } of this.#memberships()) {
      tunnel.tick(now);
      next = Math.min(next, tunnel.device.nextDeadline);
    }
    if (next !== Number.POSITIVE_INFINITY) this.#tickBy(Math.max(next, now.now + TICK_MS));
  }
}
