// The outside: one UDP port for all networks, as a v4 and a v6 socket (v4-mapped addresses lose control messages).
// A socket stays for good in the network namespace of the thread that made it. Offloads are probed, not assumed.

import { Vl3Error } from '../../native-free/error.ts';
import {
  bind,
  close,
  dup3,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EINVAL,
  ENETUNREACH,
  EPERM,
  errno,
  errnoName,
  getsockname,
  MSG_DONTWAIT,
  O_CLOEXEC,
  recvmmsg,
  sendmsg,
  setsockopt,
  socket,
} from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { MessageBatch } from './message-batch.ts';
import {
  AF_INET,
  AF_INET6,
  encodeSockaddr,
  PATH_LENGTH,
  PATH_LOCAL,
  SOCKADDR_LENGTH,
  sockaddrLength,
} from './sockaddr.ts';

const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const IPPROTO_RAW = 255;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDTIMEO = 21;
const SO_MARK = 36;
const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IPPROTO_IPV6 = 41;
const IPV6_MTU_DISCOVER = 23;
const IPV6_V6ONLY = 26;
const IP_RECVTOS = 13;
const IP_PKTINFO = 8;
const IPV6_RECVPKTINFO = 49;
const IPV6_RECVTCLASS = 66;
/** In one piece, whatever the kernel thinks of the path; not at all, where its first link carries less. */
export const PMTUDISC_PROBE = 3;
/** In pieces if need be, by the first link's MTU alone: nobody can make the kernel believe in a lower one. */
export const PMTUDISC_OMIT = 5;
/** The socket option that takes these. */
export const mtuDiscovery = {
  v4: { level: IPPROTO_IP, option: IP_MTU_DISCOVER },
  v6: { level: IPPROTO_IPV6, option: IPV6_MTU_DISCOVER },
} as const;
const SOL_UDP = 17;
const UDP_GRO = 104;

/** Enough for some milliseconds at full speed. */
const SOCKET_BUFFER = 8 << 20;
/** With port 0, how often a port that is free for v4 may turn out to be taken for v6. */
const PORT_ATTEMPTS = 16;
/** Of handshakes: AF41, as the kernel's WireGuard has it. */
const HANDSHAKE_TRAFFIC_CLASS = 0x88;
/** A send that waits longer than this for room in the socket's buffer fails. */
const SEND_TIMEOUT_MS = 100;

const LONGEST_HANDSHAKE = 2048;

/** What the kernel says when it is to send from an address that is not ours any more, among other reasons. */
export const mayBeOfLocal = (code: number): boolean =>
  code === EINVAL || code === ENETUNREACH || code === EADDRNOTAVAIL;

export interface UdpOffloads {
  /** UDP_SEGMENT: one send, many datagrams. */
  readonly segmentation: boolean;
  /** UDP_GRO: one receive, many datagrams. */
  readonly coalescing: boolean;
}

export interface UdpSockets {
  readonly port: number;
  readonly v4: number;
  /** -1 where the machine has no IPv6. */
  readonly v6: number;
  /** Sends IPv6 packets that are complete with their headers (raw(7)); undefined: not allowed to. */
  readonly raw6?: number | undefined;
  readonly offloads: UdpOffloads;
}

export interface UdpOptions {
  /** 0: any free one. */
  readonly port: number;
  /** False: neither probed nor used. */
  readonly allowOffloads: boolean;
}

/** Opens both sockets in the calling thread's network namespace. */
export const openUdp = (options: UdpOptions): UdpSockets => {
  const scratch = new Arena(256 << 10);
  try {
    for (let attempt = 1; ; attempt++) {
      const v4 = openSocket(scratch, AF_INET, options.port);
      try {
        const port = boundPort(scratch, v4);
        const v6 = openV6(scratch, port, options.port === 0 && attempt < PORT_ATTEMPTS);
        if (v6 === 'taken') {
          close(v4);
          continue;
        }
        const offloads = setOffloads(scratch, v4, v6, options.allowOffloads);
        return { port, v4, v6, raw6: v6 < 0 ? undefined : openRaw6(), offloads };
      } catch (error) {
        close(v4);
        throw error;
      }
    }
  } finally {
    scratch.unmap();
  }
};

/**
 * Moves both sockets to another port, for all threads at once and without a moment in between: the descriptors stay, and what
 * they stand for is replaced. Who sleeps in poll on them has to be woken. Throws, and changes nothing, when the port is taken.
 */
export const rebindUdp = (
  sockets: UdpSockets,
  options: UdpOptions & { readonly mark: number },
): UdpSockets => {
  const moved = openUdp(options);
  try {
    if (options.mark !== 0) setUdpMark(moved, options.mark);
    replace(sockets.v4, moved.v4);
    // A machine that had no IPv6 when the port was opened goes on without.
    if (sockets.v6 >= 0 && moved.v6 >= 0) replace(sockets.v6, moved.v6);
    return { ...sockets, port: moved.port };
  } finally {
    closeUdp(moved);
  }
};

/**
 * Gives the port up, for all threads at once; `rebindUdp` takes one again. Nothing comes until then. Who sleeps in poll on the
 * sockets has to be woken, or the port stays taken until then.
 */
export const unbindUdp = (sockets: UdpSockets): void => {
  for (const [fd, family] of [
    [sockets.v4, AF_INET],
    [sockets.v6, AF_INET6],
  ] as const) {
    if (fd < 0) continue;
    const unbound = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (unbound < 0) throw new SocketError(errno(), 0, family);
    replace(fd, unbound);
    close(unbound);
  }
};

const replace = (fd: number, by: number): void => {
  if (dup3(by, fd, O_CLOEXEC) < 0)
    throw new Vl3Error('internal', `cannot replace a socket: ${errnoName(errno())}`);
};

/** What the routing of outgoing packets may go by (SO_MARK); 0: none. */
export const setUdpMark = ({ v4, v6, raw6 = -1 }: UdpSockets, mark: number): void => {
  const scratch = new Arena(64);
  try {
    for (const fd of [v4, v6, raw6].filter((one) => one >= 0))
      if (!setInt(scratch, fd, SOL_SOCKET, SO_MARK, mark | 0))
        throw new Vl3Error('permission-denied', `cannot set the mark ${mark}: ${errnoName(errno())}`);
  } finally {
    scratch.unmap();
  }
};

export const closeUdp = (sockets: UdpSockets): void => {
  close(sockets.v4);
  if (sockets.v6 >= 0) close(sockets.v6);
  if (sockets.raw6 !== undefined) close(sockets.raw6);
};

/** It receives nothing. */
const openRaw6 = (): number | undefined => {
  const fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  return fd < 0 ? undefined : fd;
};

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

const openV6 = (scratch: Arena, port: number, mayRetry: boolean): number | 'taken' => {
  try {
    return openSocket(scratch, AF_INET6, port);
  } catch (error) {
    const code = error instanceof SocketError ? error.errno : 0;
    if (code === EAFNOSUPPORT || code === EADDRNOTAVAIL) return -1;
    if (code === EADDRINUSE && mayRetry) return 'taken';
    throw error;
  }
};

class SocketError extends Vl3Error {
  readonly errno: number;

  constructor(code: number, port: number, family: number) {
    const protocol = family === AF_INET ? 'UDP' : 'UDP over IPv6';
    if (code === EADDRINUSE) {
      super(
        'already-exists',
        `${protocol} port ${port} is taken: another program uses it (ss -ulpn shows which); ` +
          'stop that or choose another with --port',
      );
    } else {
      super('failed-precondition', `cannot open ${protocol} port ${port}: ${errnoName(code)}`);
    }
    this.errno = code;
  }
}

const openSocket = (scratch: Arena, family: number, port: number): number => {
  const fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SocketError(errno(), port, family);
  const set = (level: number, option: number, value: number): boolean =>
    setInt(scratch, fd, level, option, value);
  if (family === AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (!set(SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)) set(SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER);
  if (!set(SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER)) set(SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
  // The path's MTU is ours to find. Until it is found, better in pieces than not at all, and as stock WireGuard does.
  if (family === AF_INET) set(IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_OMIT);
  else set(IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_OMIT);
  askForControl(scratch, fd, family);
  setSendTimeout(scratch, fd);

  const address = encodeSockaddr({ address: family === AF_INET ? '0.0.0.0' : '::', port });
  scratch.bytes.set(address, 0);
  if (bind(fd, scratch.address, sockaddrLength(family)) < 0) {
    const code = errno();
    close(fd);
    throw new SocketError(code, port, family);
  }
  return fd;
};

/** With every datagram: its ECN mark, and which address of ours it was sent to. */
const askForControl = (scratch: Arena, fd: number, family: number): void => {
  if (family === AF_INET) {
    setInt(scratch, fd, IPPROTO_IP, IP_RECVTOS, 1);
    setInt(scratch, fd, IPPROTO_IP, IP_PKTINFO, 1);
  } else {
    setInt(scratch, fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    setInt(scratch, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  }
};

const setInt = (scratch: Arena, fd: number, level: number, option: number, value: number): boolean => {
  scratch.view.setInt32(0, value, true);
  return setsockopt(fd, level, option, scratch.address, 4) === 0;
};

/** struct timeval: seconds, microseconds. */
const setSendTimeout = (scratch: Arena, fd: number): void => {
  scratch.setUint64(0, 0);
  scratch.setUint64(8, SEND_TIMEOUT_MS * 1000);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, scratch.address, 16);
};

const boundPort = (scratch: Arena, fd: number): number => {
  scratch.view.setUint32(64, SOCKADDR_LENGTH, true);
  getsockname(fd, scratch.address, scratch.address + 64);
  return scratch.view.getUint16(2);
};

const setOffloads = (scratch: Arena, v4: number, v6: number, allowed: boolean): UdpOffloads => {
  if (!allowed || !offloadsWork(scratch)) return { segmentation: false, coalescing: false };
  let coalescing = setInt(scratch, v4, SOL_UDP, UDP_GRO, 1);
  if (v6 >= 0) coalescing = setInt(scratch, v6, SOL_UDP, UDP_GRO, 1) && coalescing;
  return { segmentation: true, coalescing };
};

const PROBE_SIZE = 100;
const PROBE_COUNT = 3;

/**
 * Sends three datagrams in one send over the loopback and looks whether they arrive. Where there is no loopback
 * (a namespace that has it down) the kernel's word is taken; the sender has a kill switch for later surprises.
 */
const offloadsWork = (scratch: Arena): boolean => {
  const { fd, port } = openLoopback(scratch);
  try {
    if (fd < 0 || !setInt(scratch, fd, SOL_UDP, UDP_GRO, 1)) return false;
    const probe = new Arena(64 << 10);
    try {
      return probeArrives(probe, fd, encodeSockaddr({ address: '127.0.0.1', port }));
    } finally {
      probe.unmap();
    }
  } finally {
    if (fd >= 0) close(fd);
  }
};

/**
 * A socket for warming up: its datagrams to its own port stay in its buffer until they are read. The buffer holds them
 * all, or the kernel would count them as lost for want of room, and an operator would wonder.
 */
export const openSink = (coalescing: boolean): { readonly fd: number; readonly port: number } => {
  const scratch = new Arena(256);
  const sink = openLoopback(scratch);
  setInt(scratch, sink.fd, SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20);
  askForControl(scratch, sink.fd, AF_INET);
  if (coalescing) setInt(scratch, sink.fd, SOL_UDP, UDP_GRO, 1);
  scratch.unmap();
  return sink;
};

const openLoopback = (scratch: Arena): { readonly fd: number; readonly port: number } => {
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return { fd, port: 0 };
  scratch.bytes.set(encodeSockaddr({ address: '127.0.0.1', port: 0 }), 0);
  bind(fd, scratch.address, sockaddrLength(AF_INET));
  return { fd, port: boundPort(scratch, fd) };
};

const probeArrives = (arena: Arena, fd: number, self: Uint8Array): boolean => {
  const batch = new MessageBatch(arena, 1, 1);
  const payload = arena.allocate(PROBE_SIZE * PROBE_COUNT);
  arena.bytes.fill(7, payload, payload + PROBE_SIZE * PROBE_COUNT);
  arena.bytes.set(self, batch.pathOffset(0));
  batch.setNameLength(0, sockaddrLength(AF_INET));
  batch.setPart(0, 0, payload, PROBE_SIZE * PROBE_COUNT);
  batch.setPartCount(0, 1);
  batch.setControl(0, PROBE_SIZE, 0);
  if (sendmsg(fd, batch.addressOf(0), MSG_DONTWAIT) < 0) {
    const code = errno();
    return errnoName(code) === 'ENETUNREACH' || errnoName(code) === 'EHOSTUNREACH' || code === EPERM;
  }
  let received = 0;
  for (let i = 0; i < PROBE_COUNT && received < PROBE_SIZE * PROBE_COUNT; i++) {
    batch.prepareReceive(0);
    if (recvmmsg(fd, batch.addressOf(0), 1, MSG_DONTWAIT, 0) <= 0) break;
    received += batch.lengthOf(0);
  }
  return received === PROBE_SIZE * PROBE_COUNT;
};
