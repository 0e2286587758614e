// What one UDP port shares among the devices behind it: receiver indices, random and unique over all of them, and
// who a handshake message is for. An initiation names its responder by mac1 (whitepaper section 5.4.4), every other
// message by receiver index. Transport data never comes here: the data plane has its own table of indices.

import type { Action, Endpoint } from '../device/data-plane.ts';
import type { Device, ReceiverIndices } from '../device/device.ts';
import { Drops } from '../device/drops.ts';
import type { RandomBytes } from '../noise/primitives.ts';
import {
  COOKIE_REPLY_TYPE,
  CookieReply,
  INITIATION_TYPE,
  Initiation,
  messageType,
  RESPONSE_TYPE,
  Response,
} from '../wire/message.ts';

/** What a datagram led to: actions for the data plane of that device. */
export interface Received {
  readonly device: Device;
  readonly actions: Action[];
}

export class Port implements ReceiverIndices {
  readonly drops = new Drops();
  readonly #random: RandomBytes;
  readonly #devices = new Set<Device>();
  readonly #owners = new Map<number, Device>();

  constructor(dependencies: { readonly random: RandomBytes }) {
    this.#random = dependencies.random;
  }

  add(device: Device): void {
    this.#devices.add(device);
  }

  /** The device gets no more initiations; its indices stay until it releases them. */
  remove(device: Device): void {
    this.#devices.delete(device);
  }

  claim(owner: Device): number {
    for (;;) {
      const bytes = this.#random(4);
      const index = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0);
      if (this.#owners.has(index)) continue;
      this.#owners.set(index, owner);
      return index;
    }
  }

  release(index: number): void {
    this.#owners.delete(index);
  }

  /** A handshake datagram (types 1 to 3) from outside; undefined when it is for nobody here. Borrows. */
  receive(datagram: Uint8Array, source: Endpoint, now: number, wallclock: number): Received | undefined {
    const device = this.#deviceOf(datagram);
    return device && { device, actions: device.receiveHandshake(datagram, source, now, wallclock) };
  }

  #deviceOf(datagram: Uint8Array): Device | undefined {
    switch (messageType(datagram)) {
      case INITIATION_TYPE:
        return this.#byMac1(Initiation.parse(datagram));
      case RESPONSE_TYPE:
        return this.#byIndex(Response.parse(datagram)?.receiver);
      case COOKIE_REPLY_TYPE:
        return this.#byIndex(CookieReply.parse(datagram)?.receiver);
      default:
        this.drops.count('malformed-message');
        return undefined;
    }
  }

  #byMac1(message: Initiation | undefined): Device | undefined {
    for (const device of this.#devices)
      if (message !== undefined && device.isResponder(message)) return device;
    this.drops.count('bad-mac1');
    return undefined;
  }

  #byIndex(index: number | undefined): Device | undefined {
    const device = index === undefined ? undefined : this.#owners.get(index);
    if (device === undefined) this.drops.count('unknown-index');
    return device;
  }
}
