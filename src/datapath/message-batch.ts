// An array of struct mmsghdr with what it points at, laid out once: per message an address, control data and a list
// of iovecs. recvmmsg fills it, sendmmsg sends it. 64-bit Linux (linux/socket.h):
//
//   mmsghdr 64 B   0 name*   8 namelen u32   16 iov*   24 iovlen   32 control*   40 controllen   48 flags   56 length u32
//   iovec   16 B   0 base*   8 length
//   cmsghdr        0 length u64 (header 16 B included)   8 level i32   12 type i32   16 data   (next: padded to 8)

import type { Arena } from '../ffi/memory.ts';
import { AF_INET, PATH_LENGTH, PATH_LOCAL, SOCKADDR_LENGTH } from './sockaddr.ts';

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
const IPPROTO_IP = 0;
const IP_TOS = 1;
const IP_PKTINFO = 8;
const IPPROTO_IPV6 = 41;
const IPV6_PKTINFO = 50;
const IPV6_TCLASS = 67;

const NAME_ROOM = 64;
const CONTROL_ROOM = 128;
/** A cmsghdr and a u16 or an int, padded to 8. */
const ONE_CONTROL = 24;
// in_pktinfo: interface index i32, our address 4 B at 4, the header's destination at 8. in6_pktinfo: our address 16 B, then
// the interface index.
const PKTINFO_LENGTH = 12;
const PKTINFO_LOCAL = 4;
const IN6_PKTINFO_LENGTH = 20;

export class MessageBatch {
  readonly count: number;
  /** Of the message that `readControl` was called for: the size of the datagrams it was joined from; 0: it is one. */
  segmentSize = 0;
  /** Likewise: its traffic class (DSCP and ECN), the same for all that were joined. */
  trafficClass = 0;
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
      arena.setPointer(header + NAME, this.pathOffset(i));
      arena.setPointer(header + IOV, this.#iovs + i * iovsEach * IOVEC);
      arena.setUint64(header + IOV_COUNT, 0);
    }
  }

  /** The address of message `i`: the argument of sendmsg, sendmmsg and recvmmsg. */
  addressOf(i: number): number {
    return this.#arena.address + this.#headers + i * MMSGHDR;
  }

  /** Where the path of message `i` is: its socket address and an address of ours, 44 bytes. */
  pathOffset(i: number): number {
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

  /**
   * Has the kernel cut message `i` into datagrams of `segmentSize` bytes (0: it is one datagram) and give them this traffic
   * class (0: the socket's), and send from the address of ours in its path. After that path is in place.
   */
  setControl(i: number, segmentSize: number, trafficClass: number): void {
    const header = this.#headers + i * MMSGHDR;
    const control = this.#controls + i * CONTROL_ROOM;
    const isV4 = this.#view.getUint16(this.pathOffset(i), true) === AF_INET;
    let length = 0;
    if (segmentSize !== 0) {
      this.#writeControl(control, SOL_UDP, UDP_SEGMENT, 2, segmentSize);
      length = ONE_CONTROL;
    }
    if (trafficClass !== 0) {
      if (isV4) this.#writeControl(control + length, IPPROTO_IP, IP_TOS, 4, trafficClass);
      else this.#writeControl(control + length, IPPROTO_IPV6, IPV6_TCLASS, 4, trafficClass);
      length += ONE_CONTROL;
    }
    if (this.hasLocal(i))
      length += this.#writePacketInfo(control + length, this.pathOffset(i) + PATH_LOCAL, isV4);
    if (length === 0) this.#arena.setUint64(header + CONTROL, 0);
    else this.#arena.setPointer(header + CONTROL, control);
    this.#arena.setUint64(header + CONTROL_LENGTH, length);
  }

  /** `bytes`: 2 for a u16, 4 for an int. */
  #writeControl(at: number, level: number, type: number, bytes: 2 | 4, value: number): void {
    this.#arena.setUint64(at, CMSG_DATA + bytes);
    this.#view.setInt32(at + CMSG_LEVEL, level, true);
    this.#view.setInt32(at + CMSG_TYPE, type, true);
    if (bytes === 2) this.#view.setUint16(at + CMSG_DATA, value, true);
    else this.#view.setInt32(at + CMSG_DATA, value, true);
  }

  /** Whether the path of message `i` names an address of ours. */
  hasLocal(i: number): boolean {
    const local = this.pathOffset(i) + PATH_LOCAL;
    const view = this.#view;
    return (
      (view.getInt32(local) |
        view.getInt32(local + 4) |
        view.getInt32(local + 8) |
        view.getInt32(local + 12)) !==
      0
    );
  }

  /** Returns how much room it takes. The interface is left to routing. */
  #writePacketInfo(at: number, local: number, isV4: boolean): number {
    const length = CMSG_DATA + (isV4 ? PKTINFO_LENGTH : IN6_PKTINFO_LENGTH);
    for (let word = at; word < at + ((length + 7) & ~7); word += 4) this.#view.setInt32(word, 0, true);
    this.#arena.setUint64(at, length);
    this.#view.setInt32(at + CMSG_LEVEL, isV4 ? IPPROTO_IP : IPPROTO_IPV6, true);
    this.#view.setInt32(at + CMSG_TYPE, isV4 ? IP_PKTINFO : IPV6_PKTINFO, true);
    if (isV4) this.#copyWords(local, at + CMSG_DATA + PKTINFO_LOCAL, 1);
    else this.#copyWords(local, at + CMSG_DATA, 4);
    return (length + 7) & ~7;
  }

  /** For so little, copyWithin and fill cost more than they do: they leave compiled code. */
  #copyWords(from: number, to: number, words: number): void {
    for (let i = 0; i < words * 4; i += 4)
      this.#view.setInt32(to + i, this.#view.getInt32(from + i, true), true);
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

  /** Reads what the kernel says of message `i` into `segmentSize`, `trafficClass` and the end of its path. */
  readControl(i: number): void {
    const view = this.#view;
    const local = this.pathOffset(i) + PATH_LOCAL;
    for (let at = local; at < local + PATH_LENGTH - PATH_LOCAL; at += 4) view.setInt32(at, 0, true);
    this.segmentSize = 0;
    this.trafficClass = 0;
    let at = this.#controls + i * CONTROL_ROOM;
    const end = at + view.getUint32(this.#headers + i * MMSGHDR + CONTROL_LENGTH, true);
    while (at + CMSG_DATA < end) {
      const length = view.getUint32(at, true);
      if (length <= CMSG_DATA) return;
      const level = view.getInt32(at + CMSG_LEVEL, true);
      const type = view.getInt32(at + CMSG_TYPE, true);
      if (level === SOL_UDP && type === UDP_GRO) this.segmentSize = view.getInt32(at + CMSG_DATA, true);
      // The kernel gives the one as a byte and the other as an int, of which the first byte is all.
      else if ((level === IPPROTO_IP && type === IP_TOS) || (level === IPPROTO_IPV6 && type === IPV6_TCLASS))
        this.trafficClass = view.getUint8(at + CMSG_DATA);
      else if (level === IPPROTO_IP && type === IP_PKTINFO)
        this.#copyWords(at + CMSG_DATA + PKTINFO_LOCAL, local, 1);
      else if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) this.#copyWords(at + CMSG_DATA, local, 4);
      at += (length + 7) & ~7;
    }
  }
}
