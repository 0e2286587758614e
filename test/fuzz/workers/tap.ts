// A packet socket on a TUN (packet(7)), by which a test plays the kernel's side of it: what it sends is what the TUN's owner
// reads, byte for byte and virtio_net_hdr included, sound or not; what it receives is what the owner wrote, before any router
// has touched it.

import type { Tun } from '../../../src/datapath/tun.ts';
import { inNamespace } from '../../../src/datapath/tun.ts';
import {
  bind,
  close,
  errno,
  errnoName,
  ifNameToIndex,
  O_CLOEXEC,
  read,
  sendto,
  setsockopt,
  socket,
} from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_SNDBUFFORCE = 32;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 0x0003;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;

// struct sockaddr_ll: family u16, protocol (big-endian), interface index i32; the rest is of hardware.
const SOCKADDR_LL = 20;
const FRAME = 64;
const LONGEST = 10 + 65535;
const BUFFER = 32 << 20;

export class Tap {
  readonly #fd: number;
  readonly #arena = new Arena(1 << 18);
  readonly #interface: number;

  constructor(tun: Tun, netns: string) {
    [this.#fd, this.#interface] = inNamespace(netns, () => [
      socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | O_CLOEXEC, 0),
      ifNameToIndex(tun.name),
    ]);
    if (this.#fd < 0) throw new Error(`no packet socket: ${errnoName(errno())}`);
    this.#set(SOL_PACKET, PACKET_VNET_HDR, 1);
    this.#set(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    this.#set(SOL_SOCKET, SO_RCVBUFFORCE, BUFFER);
    this.#set(SOL_SOCKET, SO_SNDBUFFORCE, BUFFER);
    this.#writeAddress(ETH_P_ALL);
    if (bind(this.#fd, this.#arena.address, SOCKADDR_LL) < 0)
      throw new Error(`the packet socket cannot be bound: ${errnoName(errno())}`);
  }

  #set(level: number, option: number, value: number): void {
    this.#arena.view.setInt32(0, value, true);
    if (setsockopt(this.#fd, level, option, this.#arena.address, 4) < 0)
      throw new Error(`option ${option} of the packet socket: ${errnoName(errno())}`);
  }

  #writeAddress(protocol: number): void {
    const { view } = this.#arena;
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, protocol);
    view.setInt32(4, this.#interface, true);
  }

  /** Borrows `frame`: virtio_net_hdr and packet. */
  send(frame: Uint8Array): void {
    const { bytes, address } = this.#arena;
    this.#writeAddress((frame[10] ?? 0) >> 4 === 6 ? ETH_P_IPV6 : ETH_P_IP);
    bytes.set(frame, FRAME);
    const sent = sendto(this.#fd, address + FRAME, frame.length, 0, address, SOCKADDR_LL);
    if (sent !== frame.length)
      throw new Error(`a frame of ${frame.length} B was not taken: ${errnoName(errno())}`);
  }

  /** The next frame that was written to the TUN; undefined when there is none. */
  receive(): Uint8Array | undefined {
    const length = read(this.#fd, this.#arena.address + FRAME, LONGEST);
    return length <= 0 ? undefined : this.#arena.bytes.slice(FRAME, FRAME + length);
  }

  close(): void {
    close(this.#fd);
    this.#arena.unmap();
  }
}
