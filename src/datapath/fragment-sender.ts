// Sends a UDP datagram in IPv6 fragments, complete with their headers, by a raw socket: what is too big for a path of which
// the kernel knows no better. The exception, not the rule: several system calls a datagram.

import { randomBytes } from 'node:crypto';
import {
  FRAGMENT_ROOM,
  fragmentCount,
  fragmentLength,
  writeFragments,
} from '../../native-free/wire/fragment6.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { connect, EMSGSIZE, errno, getsockname, MSG_DONTWAIT, sendto } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { PATH_LOCAL, SOCKADDR_IN6_LENGTH } from './sockaddr.ts';
import type { UdpSockets } from './udp.ts';

const LONGEST = 65535;
/** In a sockaddr. */
const PORT = 2;
const ADDRESS = 8;
const ADDRESS_LENGTH = 16;

const SOCKADDR_ROOM = 64;

export class FragmentSender {
  readonly #arena: Arena;
  readonly #memory: PacketMemory;
  readonly #udp: UdpSockets;
  readonly #fragments: number;
  readonly #remote: number;
  readonly #local: number;
  readonly #length: number;
  #identification = randomBytes(4).readUInt32LE();

  /** Bytes an arena must have for this. */
  static readonly ARENA = fragmentCount(LONGEST) * FRAGMENT_ROOM + 4 * SOCKADDR_ROOM;

  constructor(arena: Arena, udp: UdpSockets) {
    this.#arena = arena;
    this.#memory = new PacketMemory(arena.buffer);
    this.#udp = udp;
    this.#fragments = arena.allocate(fragmentCount(LONGEST) * FRAGMENT_ROOM);
    this.#remote = arena.allocate(SOCKADDR_ROOM);
    this.#local = arena.allocate(SOCKADDR_ROOM);
    this.#length = arena.allocate(SOCKADDR_ROOM);
  }

  /**
   * `path` and `payload` are offsets in the arena; the 8 bytes before the payload are overwritten. Returns 0, or the errno of
   * what failed.
   */
  send(path: number, payload: number, length: number, trafficClass: number): number {
    const { view, bytes } = this.#memory;
    const { v6, raw6 } = this.#udp;
    if (raw6 === undefined || length > LONGEST - 8) return EMSGSIZE;
    const remote = this.#remote;
    bytes.copyWithin(remote, path, path + SOCKADDR_IN6_LENGTH);
    const destinationPort = view.getUint16(remote + PORT);
    // Where a raw socket has a protocol.
    view.setUint16(remote + PORT, 0);
    // The port may have changed since the sockets were opened.
    if (!this.#askName(v6)) return errno();
    const sourcePort = view.getUint16(this.#local + PORT);
    if (!this.#findSource(path, raw6)) return errno();
    this.#identification = (this.#identification + 1) >>> 0;
    const datagram = {
      source: this.#local + ADDRESS,
      destination: remote + ADDRESS,
      sourcePort,
      destinationPort,
      trafficClass,
      identification: this.#identification,
    };
    const count = writeFragments(this.#memory, datagram, payload, length, this.#fragments);
    return this.#sendAll(raw6, count, length);
  }

  #sendAll(fd: number, count: number, length: number): number {
    const { address } = this.#arena;
    for (let i = 0; i < count; i++) {
      const at = address + this.#fragments + i * FRAGMENT_ROOM;
      const size = fragmentLength(i, count, length);
      if (sendto(fd, at, size, MSG_DONTWAIT, address + this.#remote, SOCKADDR_IN6_LENGTH) < 0) return errno();
    }
    return 0;
  }

  /** The address to send from: that of the path, or what the kernel would take. */
  #findSource(path: number, fd: number): boolean {
    const { bytes } = this.#memory;
    const local = path + PATH_LOCAL;
    if (bytes.subarray(local, local + ADDRESS_LENGTH).some((byte) => byte !== 0)) {
      bytes.copyWithin(this.#local + ADDRESS, local, local + ADDRESS_LENGTH);
      return true;
    }
    if (connect(fd, this.#arena.address + this.#remote, SOCKADDR_IN6_LENGTH) < 0) return false;
    return this.#askName(fd);
  }

  #askName(fd: number): boolean {
    const { address } = this.#arena;
    this.#memory.view.setUint32(this.#length, SOCKADDR_ROOM, true);
    return getsockname(fd, address + this.#local, address + this.#length) === 0;
  }
}
