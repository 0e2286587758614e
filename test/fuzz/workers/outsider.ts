// The other end of the wire: a UDP port, IPv4 and IPv6, that sends datagrams one by one or as a run that the kernel keeps
// together (UDP_SEGMENT), with an ECN mark, and keeps what comes with the mark that it came with.

import type { Endpoint } from '../../../native-free/device/data-plane.ts';
import { ECN_MASK } from '../../../native-free/wire/ecn.ts';
import { MessageBatch } from '../../../src/datapath/message-batch.ts';
import { AF_INET, encodeSockaddr, sockaddrLength } from '../../../src/datapath/sockaddr.ts';
import { inNamespace } from '../../../src/datapath/tun.ts';
import { closeUdp, openUdp, type UdpSockets } from '../../../src/datapath/udp.ts';
import { errno, errnoName, MSG_DONTWAIT, recvmmsg, sendmsg } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';

export type Family = 4 | 6;

export interface Arrived {
  readonly bytes: Uint8Array;
  readonly mark: number;
}

const LONGEST = 65536;

export class Outsider {
  readonly #sockets: UdpSockets;
  readonly #arena = new Arena(2 * LONGEST + 8192);
  readonly #batch = new MessageBatch(this.#arena, 1, 1);
  readonly #payload = this.#arena.allocate(LONGEST);

  constructor(netns: string) {
    this.#sockets = inNamespace(netns, () => openUdp({ port: 0, allowOffloads: false }));
  }

  /** Where it is found on the loopback. */
  endpoint(family: Family): Endpoint {
    return { address: family === 4 ? '127.0.0.1' : '::1', port: this.#sockets.port };
  }

  /** Borrows `datagrams`: one after another, all of `size` bytes but the last; 0: it is one. */
  send(family: Family, port: number, datagrams: Uint8Array, size: number, mark: number): void {
    const batch = this.#batch;
    const to = encodeSockaddr({ ...this.endpoint(family), port });
    this.#arena.bytes.set(to, batch.pathOffset(0));
    this.#arena.bytes.fill(0, batch.pathOffset(0) + to.length, batch.pathOffset(0) + 64);
    this.#arena.bytes.set(datagrams, this.#payload);
    batch.setNameLength(0, sockaddrLength(to[0] ?? 0));
    batch.setPart(0, 0, this.#payload, datagrams.length);
    batch.setPartCount(0, 1);
    batch.setControl(0, size, mark);
    const fd = to[0] === AF_INET ? this.#sockets.v4 : this.#sockets.v6;
    const sent = sendmsg(fd, batch.addressOf(0), 0);
    if (sent !== datagrams.length)
      throw new Error(`${datagrams.length} B in datagrams of ${size} did not leave: ${errnoName(errno())}`);
  }

  /** The next datagram; undefined when there is none. */
  receive(family: Family): Arrived | undefined {
    const batch = this.#batch;
    batch.setPart(0, 0, this.#payload, LONGEST);
    batch.setPartCount(0, 1);
    batch.prepareReceive(0);
    const fd = family === 4 ? this.#sockets.v4 : this.#sockets.v6;
    if (recvmmsg(fd, batch.addressOf(0), 1, MSG_DONTWAIT, 0) !== 1) return undefined;
    batch.readControl(0);
    return {
      bytes: this.#arena.bytes.slice(this.#payload, this.#payload + batch.lengthOf(0)),
      mark: batch.trafficClass & ECN_MASK,
    };
  }

  close(): void {
    closeUdp(this.#sockets);
    this.#arena.unmap();
  }
}
