// An array of struct mmsghdr with what it points at, laid out once: per message an address, control data and a list
// of iovecs. recvmmsg fills it, sendmmsg sends it. 64-bit Linux (linux/socket.h):
//
//   mmsghdr 64 B   0 name*   8 namelen u32   16 iov*   24 iovlen   32 control*   40 controllen   48 flags   56 length u32
//   iovec   16 B   0 base*   8 length
//   cmsghdr        0 length u64 (header 16 B included)   8 level i32   12 type i32   16 data

import type { Arena } from '../ffi/memory.ts';
import { SOCKADDR_LENGTH } from './sockaddr.ts';

const MMSGHDR = 64;
const NAME = 0;
const NAME_LENGTH = 8;
const IOV = 16;
const IOV_COUNT = 24;
const CONTROL = 32;
const CONTROL_LENGTH = 40;
const LENGTH = 56;
const IOVEC = 16;
const IOVEC_LENGTH = 8;
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
const CMSG_DATA = 16;

const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;

const NAME_ROOM = 64;
const CONTROL_ROOM = 64;
/** A cmsghdr and a u16, padded to 8. */
const SEGMENT_CONTROL = 24;

export class MessageBatch {
  readonly count: number;
  readonly #arena: Arena;
  readonly #view: DataView;
  readonly #headers: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #iovs: number;
  readonly #iovsEach: number;

  constructor(arena: Arena, count: number, iovsEach: number) {
    this.count = count;
    this.#arena = arena;
    this.#view = arena.view;
    this.#iovsEach = iovsEach;
    this.#headers = arena.allocate(count * MMSGHDR);
    this.#names = arena.allocate(count * NAME_ROOM);
    this.#controls = arena.allocate(count * CONTROL_ROOM);
    this.#iovs = arena.allocate(count * iovsEach * IOVEC);
    for (let i = 0; i < count; i++) {
      const header = this.#headers + i * MMSGHDR;
      arena.setPointer(header + NAME, this.nameOffset(i));
      arena.setPointer(header + IOV, this.#iovs + i * iovsEach * IOVEC);
      arena.setUint64(header + IOV_COUNT, 0);
    }
  }

  /** The address of message `i`: the argument of sendmsg, sendmmsg and recvmmsg. */
  addressOf(i: number): number {
    return this.#arena.address + this.#headers + i * MMSGHDR;
  }

  /** Where the socket address of message `i` is: 28 bytes. */
  nameOffset(i: number): number {
    return this.#names + i * NAME_ROOM;
  }

  /** Points part `part` of message `i` at `length` bytes of the arena. */
  setPart(i: number, part: number, offset: number, length: number): void {
    const iov = this.#iovs + (i * this.#iovsEach + part) * IOVEC;
    this.#arena.setPointer(iov, offset);
    this.#view.setUint32(iov + IOVEC_LENGTH, length, true);
  }

  setPartCount(i: number, count: number): void {
    this.#view.setUint32(this.#headers + i * MMSGHDR + IOV_COUNT, count, true);
  }

  // --- sending

  setNameLength(i: number, length: number): void {
    this.#view.setUint32(this.#headers + i * MMSGHDR + NAME_LENGTH, length, true);
  }

  /** Has the kernel cut message `i` into datagrams of `size` bytes; 0: it is one datagram. */
  setSegmentSize(i: number, size: number): void {
    const header = this.#headers + i * MMSGHDR;
    if (size === 0) {
      this.#arena.setUint64(header + CONTROL, 0);
      this.#arena.setUint64(header + CONTROL_LENGTH, 0);
      return;
    }
    const control = this.#controls + i * CONTROL_ROOM;
    this.#arena.setPointer(header + CONTROL, control);
    this.#arena.setUint64(header + CONTROL_LENGTH, SEGMENT_CONTROL);
    this.#arena.setUint64(control, CMSG_DATA + 2);
    this.#view.setInt32(control + CMSG_LEVEL, SOL_UDP, true);
    this.#view.setInt32(control + CMSG_TYPE, UDP_SEGMENT, true);
    this.#view.setUint16(control + CMSG_DATA, size, true);
  }

  // --- receiving

  /** Makes message `i` ready to be received into: the kernel has overwritten these lengths the time before. */
  prepareReceive(i: number): void {
    const header = this.#headers + i * MMSGHDR;
    this.#view.setUint32(header + NAME_LENGTH, SOCKADDR_LENGTH, true);
    this.#arena.setPointer(header + CONTROL, this.#controls + i * CONTROL_ROOM);
    this.#view.setUint32(header + CONTROL_LENGTH, CONTROL_ROOM, true);
  }

  /** How many bytes message `i` has received. */
  lengthOf(i: number): number {
    return this.#view.getUint32(this.#headers + i * MMSGHDR + LENGTH, true);
  }

  /** The size of the datagrams that message `i` was coalesced from; 0: it is one datagram. */
  segmentSizeOf(i: number): number {
    const length = this.#view.getUint32(this.#headers + i * MMSGHDR + CONTROL_LENGTH, true);
    if (length < CMSG_DATA + 4) return 0;
    const control = this.#controls + i * CONTROL_ROOM;
    const isGro =
      this.#view.getInt32(control + CMSG_LEVEL, true) === SOL_UDP &&
      this.#view.getInt32(control + CMSG_TYPE, true) === UDP_GRO;
    return isGro ? this.#view.getInt32(control + CMSG_DATA, true) : 0;
  }
}
