// Somebody beside the path: sees datagrams, cannot hold them back, and sends what it likes from where it likes. It repeats
// what has arrived: transport messages as they were, and any message with bytes changed, under its true receiver index.

import type { Endpoint } from '../device/data-plane.ts';
import { INITIATION_TYPE, messageType, TRANSPORT_TYPE } from '../wire/message.ts';
import type { Internet } from './internet.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

const HOME: Endpoint = { address: '66.6.6.6', port: 666 };
const EVERY_MS = 150;
const REMEMBERED = 64;
const FLOOD_EVERY_MS = 500;
const FLOOD_BURST = 400;
/** Of an initiation, what is authenticated at all: mac2 counts only under load. */
const FORGED: readonly [number, number] = [8, 115];

interface Seen {
  readonly datagram: Uint8Array;
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

export class Attacker {
  #until = 0;
  #isBusy = false;
  readonly #scheduler: Scheduler;
  readonly #internet: Internet;
  readonly #random: Random;
  #seen: Seen[] = [];
  readonly #initiations = new Map<string, readonly Seen[]>();

  constructor(scheduler: Scheduler, internet: Internet, random: Random) {
    this.#scheduler = scheduler;
    this.#internet = internet;
    this.#random = random;
    internet.observer = (datagram, source, destination, to) => {
      if (messageType(datagram) === INITIATION_TYPE && source.port !== HOME.port) {
        const known = this.#initiations.get(to) ?? [];
        this.#initiations.set(to, [...known, { datagram: datagram.slice(), source, destination }].slice(-8));
      }
      if (scheduler.now >= this.#until || source === HOME) return;
      this.#seen.push({ datagram: datagram.slice(), source, destination });
      if (this.#seen.length > REMEMBERED) this.#seen.splice(random.between(0, REMEMBERED), 1);
    };
  }

  attack(until: number): void {
    this.#until = Math.max(this.#until, until);
    if (!this.#isBusy) this.#again();
  }

  /** Bursts of handshakes at one machine: repeated under their true addresses, and forged from anywhere. */
  flood(node: string, until: number): void {
    const initiations = this.#initiations.get(node) ?? [];
    this.#scheduler.after(FLOOD_EVERY_MS, 'the attacker floods', () => {
      if (this.#scheduler.now >= until) return;
      if (initiations.length > 0) {
        for (let i = 0; i < FLOOD_BURST; i++) {
          const { datagram, source, destination } = this.#random.pick(initiations);
          if (i % 4 === 0) {
            const forged = datagram.slice();
            const at = this.#random.between(...FORGED);
            forged[at] = (forged[at] ?? 0) ^ this.#random.between(1, 255);
            const somewhere = { address: `66.6.${this.#random.between(0, 9)}.6`, port: 666 + i };
            this.#internet.injectNow(forged, somewhere, destination);
          } else {
            this.#internet.injectNow(datagram, source, destination);
          }
        }
      }
      this.flood(node, until);
    });
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
