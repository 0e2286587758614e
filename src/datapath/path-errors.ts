// What routers say about messages of ours that were too big, by raw ICMP and ICMPv6 sockets in the calling thread's
// namespace. The UDP sockets could hear it too, but a pending error fails their next send, and they do not show what is
// quoted, which is all that tells a router from a forger. Without the privilege nothing is heard: probes find out the same.

import { parseTooBigV4, parseTooBigV6, type TooBig } from '../../native-free/wire/too-big.ts';
import { close, O_CLOEXEC, O_NONBLOCK, read, setsockopt, socket } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';

const SOCK_RAW = 3;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
/** Of the types of ICMP those whose bit is 0 pass, of ICMPv6 likewise with 256 bits. */
const SOL_RAW = 255;
const ICMP_FILTER = 1;
const V4_UNREACHABLE = 3;
const SOL_ICMPV6 = 58;
const ICMPV6_FILTER = 1;
const V6_TOO_BIG = 2;
const FILTER_LENGTH = 32;

const POLL_MS = 100;
/** Of each family, at a time: whoever floods us with them only keeps others from being heard. */
const MOST = 16;
/** What we look at of one, with its headers. */
const ROOM = 256;

export class PathErrors {
  readonly #arena = new Arena(4096);
  readonly #at = this.#arena.allocate(ROOM);
  readonly #v4: number;
  readonly #v6: number;
  readonly #handler: (errors: readonly TooBig[]) => void;
  readonly #timer: NodeJS.Timeout;

  /** `handler` is told of all that came since it was told last: looking whose they are costs much, and forging them little. */
  constructor(handler: (errors: readonly TooBig[]) => void) {
    this.#handler = handler;
    this.#v4 = this.#open(AF_INET);
    this.#v6 = this.#open(AF_INET6);
    this.#timer = setInterval(() => this.#poll(), POLL_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
    for (const fd of [this.#v4, this.#v6]) if (fd >= 0) close(fd);
    this.#arena.unmap();
  }

  #open(family: number): number {
    const isV4 = family === AF_INET;
    const fd = socket(family, SOCK_RAW | O_NONBLOCK | O_CLOEXEC, isV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    if (fd < 0) return fd;
    const { view, address, bytes } = this.#arena;
    bytes.fill(0xff, this.#at, this.#at + FILTER_LENGTH);
    view.setUint32(this.#at, ~(1 << (isV4 ? V4_UNREACHABLE : V6_TOO_BIG)), true);
    if (isV4) setsockopt(fd, SOL_RAW, ICMP_FILTER, address + this.#at, 4);
    else setsockopt(fd, SOL_ICMPV6, ICMPV6_FILTER, address + this.#at, FILTER_LENGTH);
    return fd;
  }

  #poll(): void {
    const errors = [...this.#drain(this.#v4, parseTooBigV4), ...this.#drain(this.#v6, parseTooBigV6)];
    if (errors.length > 0) this.#handler(errors);
  }

  #drain(fd: number, parse: (bytes: Uint8Array) => TooBig | undefined): TooBig[] {
    const errors: TooBig[] = [];
    if (fd < 0) return errors;
    const { bytes, address } = this.#arena;
    for (let i = 0; i < MOST; i++) {
      const length = read(fd, address + this.#at, ROOM);
      if (length <= 0) break;
      const error = parse(bytes.subarray(this.#at, this.#at + length));
      if (error !== undefined) errors.push(error);
    }
    return errors;
  }
}
