// Handshake messages leave from the main thread, one by one.

import { errno, MSG_DONTWAIT, sendmsg } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { MessageBatch } from './message-batch.ts';
import { AF_INET, PATH_LENGTH, PATH_LOCAL, sockaddrLength } from './sockaddr.ts';
import { mayBeOfLocal, type UdpSockets } from './udp.ts';

/** Of handshakes: AF41, as the kernel's WireGuard has it. */
const HANDSHAKE_TRAFFIC_CLASS = 0x88;
const LONGEST_HANDSHAKE = 2048;

/** Sends single datagrams from the main thread: handshakes. What cannot be sent at once is lost, as on any network. */
export class DatagramSender {
  readonly #sockets: UdpSockets;
  readonly #arena = new Arena(8192);
  readonly #message = new MessageBatch(this.#arena, 1, 1);
  readonly #datagram = this.#arena.allocate(LONGEST_HANDSHAKE);
  #isClosed = false;

  constructor(sockets: UdpSockets) {
    this.#sockets = sockets;
  }

  /** `path` as by encodePath; borrows both. False: it did not leave. */
  send(datagram: Uint8Array, path: Uint8Array): boolean {
    const family = path[0] ?? 0;
    const fd = family === AF_INET ? this.#sockets.v4 : this.#sockets.v6;
    if (this.#isClosed || fd < 0 || datagram.length > LONGEST_HANDSHAKE) return false;
    const { bytes } = this.#arena;
    const message = this.#message;
    bytes.set(path, message.pathOffset(0));
    bytes.set(datagram, this.#datagram);
    message.setNameLength(0, sockaddrLength(family));
    message.setPart(0, 0, this.#datagram, datagram.length);
    message.setPartCount(0, 1);
    message.setControl(0, 0, HANDSHAKE_TRAFFIC_CLASS);
    if (sendmsg(fd, message.addressOf(0), MSG_DONTWAIT) === datagram.length) return true;
    if (!message.hasLocal(0) || !mayBeOfLocal(errno())) return false;
    // The address that the other side used is ours no more.
    bytes.fill(0, message.pathOffset(0) + PATH_LOCAL, message.pathOffset(0) + PATH_LENGTH);
    message.setControl(0, 0, HANDSHAKE_TRAFFIC_CLASS);
    return sendmsg(fd, message.addressOf(0), MSG_DONTWAIT) === datagram.length;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#arena.unmap();
  }
}
