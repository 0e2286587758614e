// Somebody beside the path: sees datagrams, cannot hold them back, and sends what it likes from where it likes. It repeats
// what has arrived: transport messages as they were, and any message with bytes changed, under its true receiver index.

import type { Endpoint } from '../device/data-plane.ts';
import { messageType, TRANSPORT_TYPE } from '../wire/message.ts';
import type { Internet } from './internet.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

const HOME: Endpoint = { address: '66.6.6.6', port: 666 };
const EVERY_MS = 150;
const REMEMBERED = 64;

interface Seen {
  readonly datagram: Uint8Array;
  readonly destination: Endpoint;
}

export class Attacker {
  #until = 0;
  #isBusy = false;
  readonly #scheduler: Scheduler;
  readonly #internet: Internet;
  readonly #random: Random;
  #seen: Seen[] = [];

  constructor(scheduler: Scheduler, internet: Internet, random: Random) {
    this.#scheduler = scheduler;
    this.#internet = internet;
    this.#random = random;
    internet.observer = (datagram, source, destination) => {
      if (scheduler.now >= this.#until || source === HOME) return;
      this.#seen.push({ datagram: datagram.slice(), destination });
      if (this.#seen.length > REMEMBERED) this.#seen.splice(random.between(0, REMEMBERED), 1);
    };
  }

  attack(until: number): void {
    this.#until = Math.max(this.#until, until);
    if (!this.#isBusy) this.#again();
  }

  #again(): void {
    this.#isBusy = this.#scheduler.now < this.#until;
    if (!this.#isBusy) {
      this.#seen = [];
      return;
    }
    this.#scheduler.after(EVERY_MS, 'the attacker sends', () => {
      this.#send();
      this.#again();
    });
  }

  #send(): void {
    const random = this.#random;
    if (this.#seen.length === 0) return;
    const { datagram, destination } = random.pick(this.#seen);
    const copy = datagram.slice();
    // A whole handshake message, repeated to a responder that restarted, is as good as new, and the endpoint is the
    // attacker's until the peer is heard again: so it is in WireGuard.
    if (messageType(copy) !== TRANSPORT_TYPE || random.chance(0.5)) {
      // Past the type, the index and the counter, so that it is looked at closely.
      const first = Math.min(16, copy.length - 1);
      for (let i = 0; i < 4; i++) {
        const byte = random.between(first, copy.length - 1);
        copy[byte] = (copy[byte] ?? 0) ^ random.between(1, 255);
      }
    }
    this.#internet.inject(copy, HOME, destination);
  }
}
