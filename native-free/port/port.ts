// What one UDP port shares among the devices behind it: receiver indices, random and unique over all of them; who a
// handshake message is for; and what is asked of messages while more come than can be worked off. An initiation names
// its responder by mac1 (whitepaper section 5.4.4), every other message by receiver index. Transport data never comes
// here: the data plane has its own table of indices.
//
//   1. receive      how many messages wait behind this one says whether the port is under load, for a second
//   2. deviceOf     who it is for; an initiation or a response with a bad mac1 is dropped, always
//   3. refuse       under load (section 5.3): no cookie in mac2 gets a cookie reply and nothing else; with one, the
//                   address must be within its rate. Only what passes costs a Diffie-Hellman.

import type { Action, Endpoint } from '../device/data-plane.ts';
import type { Device, ReceiverIndices } from '../device/device.ts';
import { Drops } from '../device/drops.ts';
import { UNDER_LOAD_QUEUE_LENGTH, UNDER_LOAD_TIME } from '../noise/constants.ts';
import type { RandomBytes } from '../noise/primitives.ts';
import { CookieReply, Initiation, Response } from '../wire/message.ts';
import { Lanes } from './lanes.ts';
import { RateLimiter } from './rate-limiter.ts';

/** What a datagram led to: actions for the data plane of that device. */
export interface Received {
  readonly device: Device;
  readonly actions: Action[];
}

export interface PortDependencies {
  readonly random: RandomBytes;
  /** How many receivers share the port's transport data, by the low bits of receiver indices: a power of two. Default 1. */
  readonly lanes?: number | undefined;
}

interface Claim {
  readonly owner: Device;
  readonly endpoint: Endpoint;
}

type Message = Initiation | Response | CookieReply;

export class Port implements ReceiverIndices {
  readonly drops = new Drops();
  readonly #random: RandomBytes;
  readonly #devices = new Set<Device>();
  readonly #claims = new Map<number, Claim>();
  readonly #lanes: Lanes;
  readonly #limiter = new RateLimiter();
  #underLoadUntil = Number.NEGATIVE_INFINITY;

  constructor({ random, lanes = 1 }: PortDependencies) {
    this.#random = random;
    this.#lanes = new Lanes(lanes);
  }

  add(device: Device): void {
    this.#devices.add(device);
  }

  /** The device gets no more initiations; its indices stay until it releases them. */
  remove(device: Device): void {
    this.#devices.delete(device);
  }

  claim(owner: Device, endpoint: Endpoint): number {
    const lane = this.#lanes.join(endpoint);
    const laneBits = this.#lanes.count - 1;
    for (;;) {
      const bytes = this.#random(4);
      const drawn = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0);
      const index = ((drawn & ~laneBits) | lane) >>> 0;
      if (this.#claims.has(index)) continue;
      this.#claims.set(index, { owner, endpoint });
      return index;
    }
  }

  release(index: number): void {
    const claim = this.#claims.get(index);
    if (claim === undefined) return;
    this.#claims.delete(index);
    this.#lanes.leave(claim.endpoint);
  }

  isUnderLoad(now: number): boolean {
    return now < this.#underLoadUntil;
  }

  /**
   * A handshake datagram (types 1 to 3) from outside; undefined when it is for nobody here. Borrows. `waiting` is the
   * number of such datagrams that arrived but have not been passed on: its owner keeps them in a queue of
   * HANDSHAKE_QUEUE_LENGTH, drops what finds it full, and works it off in turns. An initiation is tried with `likely`
   * first: its owner may know whose mac1 it carries.
   */
  receive(
    datagram: Uint8Array,
    source: Endpoint,
    now: number,
    wallclock: number,
    waiting = 0,
    likely?: Device,
  ): Received | undefined {
    if (waiting >= UNDER_LOAD_QUEUE_LENGTH) this.#underLoadUntil = now + UNDER_LOAD_TIME;
    const message = Initiation.parse(datagram) ?? Response.parse(datagram) ?? CookieReply.parse(datagram);
    const device = this.#deviceOf(message, likely);
    if (message === undefined || device === undefined) return undefined;
    const actions =
      this.#refuse(device, message, source, now) ?? device.receiveHandshake(datagram, source, now, wallclock);
    return { device, actions };
  }

  #deviceOf(message: Message | undefined, likely: Device | undefined): Device | undefined {
    if (message === undefined) {
      this.drops.count('malformed-message');
      return undefined;
    }
    if (message instanceof Initiation) return this.#byMac1(message, likely);
    const device = this.#claims.get(message.receiver)?.owner;
    if (device === undefined) this.drops.count('unknown-index');
    else if (message instanceof Response && !device.verifyMac1(message.macs)) this.drops.count('bad-mac1');
    else return device;
    return undefined;
  }

  #byMac1(message: Initiation, likely: Device | undefined): Device | undefined {
    const { macs } = message;
    if (likely !== undefined && this.#devices.has(likely) && likely.verifyMac1(macs)) return likely;
    for (const device of this.#devices) if (device.verifyMac1(macs)) return device;
    this.drops.count('bad-mac1');
    return undefined;
  }

  /**
   * What a message gets instead of being looked at; undefined: it may pass.
   *
   * Deviation from section 5.3: the first response to an initiation of ours needs no cookie. We asked for it, and
   * its index can't be guessed; a node that comes back with hundreds of peers would else refuse most of their
   * answers. One that proves to be forged takes the privilege away, so that each initiation costs at most one.
   */
  #refuse(device: Device, message: Message, source: Endpoint, now: number): Action[] | undefined {
    if (message instanceof CookieReply) return undefined;
    if (!this.isUnderLoad(now)) {
      this.#limiter.forgetFull(now);
      return undefined;
    }
    if (message instanceof Response && device.isAwaited(message)) return undefined;
    if (!device.verifyMac2(message.macs, source, now)) {
      this.drops.count('cookie-required');
      return device.replyWithCookie(message, source, now);
    }
    if (this.#limiter.allow(device.id, source.address, now)) return undefined;
    this.drops.count('rate-limited');
    return [];
  }
}
