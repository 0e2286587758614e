// A complete WireGuard in memory: a Device and the reference data plane behind a Port, with a TUN and a UDP socket
// passed in. Whoever owns it pumps it: packets, datagrams and ticks go in with the time. It serves tests and the
// simulator; the agent joins the same parts with src/datapath.

import { bytesToHex } from '@noble/hashes/utils.js';
import type { Primitives, RandomBytes } from '../noise/primitives.ts';
import type { Port } from '../port/port.ts';
import { messageType, TRANSPORT_TYPE } from '../wire/message.ts';
import { type Action, type DataPlaneEvent, type Endpoint, type PeerId, wipeKeys } from './data-plane.ts';
import { Device, type DeviceOptions } from './device.ts';
import type { DropReason } from './drops.ts';
import { receiveTransport } from './inbound.ts';
import { sendPacket } from './outbound.ts';
import type { PeerConfig } from './peer-config.ts';
import type { Inside, Outside } from './plane.ts';
import { ReferenceDataPlane } from './reference-data-plane.ts';

export interface TunnelOptions extends DeviceOptions {
  /** Of the inside, in bytes. */
  readonly mtu: number;
}

export interface TunnelDependencies {
  readonly primitives: Primitives;
  readonly random: RandomBytes;
  readonly port: Port;
  readonly inside: Inside;
  readonly outside: Outside;
}

/** The time of one call: monotonic ms, and ms since 1970. */
export interface Time {
  readonly now: number;
  readonly wallclock: number;
}

export class Tunnel {
  readonly device: Device;
  readonly plane: ReferenceDataPlane;
  readonly #port: Port;
  readonly #events: DataPlaneEvent[] = [];

  constructor(options: TunnelOptions, dependencies: TunnelDependencies) {
    const { primitives, random, port, inside, outside } = dependencies;
    this.device = new Device(options, { primitives, random, indices: port });
    this.plane = new ReferenceDataPlane(options.mtu, {
      primitives,
      allowedIps: this.device.allowedIps,
      inside,
      outside,
      report: (event) => this.#events.push(event),
    });
    this.#port = port;
    port.add(this.device);
  }

  setPeer(config: PeerConfig, time: Time): void {
    this.carryOut(this.device.setPeer(config), time);
  }

  removePeer(publicKey: Uint8Array, time: Time): void {
    const id: PeerId = bytesToHex(publicKey);
    this.carryOut(this.device.removePeer(id), time);
    this.plane.forget(id);
  }

  initiate(publicKey: Uint8Array, time: Time): void {
    this.carryOut(this.device.initiate(bytesToHex(publicKey), time.now, time.wallclock), time);
  }

  /** A packet from the TUN. Keeps it. */
  fromInside(packet: Uint8Array, time: Time): void {
    // It may be the answer to what is being delivered: under the session which that has confirmed, not the one before.
    this.#handleEvents(time);
    this.#count(sendPacket(this.plane, packet, time.now));
    this.#handleEvents(time);
  }

  /** A datagram from the UDP socket; `waiting` as for Port.receive. Borrows it. */
  fromOutside(datagram: Uint8Array, source: Endpoint, time: Time, waiting = 0): void {
    if (messageType(datagram) === TRANSPORT_TYPE) {
      this.#count(receiveTransport(this.plane, datagram, source, time.now));
      this.#handleEvents(time);
    } else {
      const received = this.#port.receive(datagram, source, time.now, time.wallclock, waiting);
      if (received?.device === this.device) this.carryOut(received.actions, time);
    }
  }

  tick(time: Time): void {
    const { now, wallclock } = time;
    this.carryOut(
      this.device.tick(now, wallclock, (peer) => this.plane.activity(peer)),
      time,
    );
  }

  /** Ends all sessions and takes the device off its port. */
  close(time: Time): void {
    this.#port.remove(this.device);
    this.carryOut(this.device.close(), time);
  }

  #count(reason: DropReason | undefined): void {
    if (reason !== undefined) this.plane.drops.count(reason);
  }

  /** What the device asked for; from outside, when the port was asked for several tunnels at once. */
  carryOut(actions: readonly Action[], time: Time): void {
    this.#apply(actions, time);
    this.#handleEvents(time);
  }

  #handleEvents(time: Time): void {
    for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
      this.#apply(this.device.event(event, time.now, time.wallclock), time);
    }
  }

  #apply(actions: readonly Action[], time: Time): void {
    for (const action of actions) this.plane.carryOut(action, time.now);
    wipeKeys(actions);
  }
}
