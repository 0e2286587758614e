// The outside: one UDP port for all networks, as a v4 and a v6 socket (v4-mapped addresses lose control messages) for each pair
// of workers, and another two for the messages of sparse flows, which need not wait behind the others. The kernel gives each
// message to the pair in whose number its receiver index ends (port-sharing.ts).
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
  errno,
  errnoName,
  O_CLOEXEC,
  setsockopt,
  socket,
} from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { keepOthersOut, type Places, sharePort, steer, unsharePort } from './port-sharing.ts';
import { AF_INET, AF_INET6, encodeSockaddr, sockaddrLength } from './sockaddr.ts';
import { askForControl, boundPort, SOL_SOCKET, setInt } from './socket-options.ts';
import { setOffloads, type UdpOffloads } from './udp-offloads.ts';

const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const IPPROTO_RAW = 255;
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
/** In one piece, whatever the kernel thinks of the path; not at all, where its first link carries less. */
export const PMTUDISC_PROBE = 3;
/** In pieces if need be, by the first link's MTU alone: nobody can make the kernel believe in a lower one. */
export const PMTUDISC_OMIT = 5;
/** The socket option that takes these. */
export const mtuDiscovery = {
  v4: { level: IPPROTO_IP, option: IP_MTU_DISCOVER },
  v6: { level: IPPROTO_IPV6, option: IPV6_MTU_DISCOVER },
} as const;

/** Enough for some milliseconds at full speed. */
const SOCKET_BUFFER = 8 << 20;
/** With port 0, how often a port that is free for v4 may turn out to be taken for v6. */
const PORT_ATTEMPTS = 16;
/** A send that waits longer than this for room in the socket's buffer fails. */
const SEND_TIMEOUT_MS = 100;

/** What the kernel says when it is to send from an address that is not ours any more, among other reasons. */
export const mayBeOfLocal = (code: number): boolean =>
  code === EINVAL || code === ENETUNREACH || code === EADDRNOTAVAIL;

export interface UdpSockets {
  readonly port: number;
  readonly v4: number;
  /** -1 where the machine has no IPv6. */
  readonly v6: number;
  /**
   * Sends IPv6 packets that are complete with their headers (raw(7)); undefined: not allowed to. A worker's own, since what it is
   * connected to says which address of ours the kernel takes.
   */
  readonly raw6?: number | undefined;
  /** What is marked as of a sparse flow comes by these, and is received first. Undefined: there is no difference. */
  readonly sparse?: SocketPair | undefined;
  readonly offloads: UdpOffloads;
  /** The sockets of further pairs of workers, at the same port. */
  readonly further?: readonly WorkerSockets[] | undefined;
  /** Of a port that is shared: they receive nothing, and let nobody else share it. */
  readonly guard?: SocketPair | undefined;
}

export interface SocketPair {
  readonly v4: number;
  readonly v6: number;
}

type WorkerSockets = SocketPair & Pick<UdpSockets, 'raw6' | 'sparse'>;

export interface UdpOptions {
  /** 0: any free one. */
  readonly port: number;
  /** Of workers, each with sockets of its own: a power of two. Default 1. */
  readonly pairs?: number | undefined;
  /** Sockets of their own for messages of sparse flows, where the kernel has what it takes. Default false. */
  readonly sparseFirst?: boolean | undefined;
  /** False: neither probed nor used. */
  readonly allowOffloads: boolean;
}

/** Opens the sockets in the calling thread's network namespace. */
export const openUdp = (options: UdpOptions): UdpSockets => {
  const scratch = new Arena(256 << 10);
  const opened: number[] = [];
  try {
    const { port, ...first } = openFirst(scratch, options.port);
    opened.push(...existing(first));
    const { pairs, guard } = openPairs(scratch, { ...first, port }, options, opened);
    const offloads = setOffloads(scratch, opened, options.allowOffloads);
    const [own = first, ...further] = pairs.map((pair) => ({
      ...pair,
      raw6: pair.v6 < 0 ? undefined : openRaw6(),
    }));
    return { ...own, port, offloads, further, guard };
  } catch (error) {
    for (const fd of opened) close(fd);
    throw error;
  } finally {
    scratch.unmap();
  }
};

/** What the workers of a pair send and receive by. */
export const socketsOf = (sockets: UdpSockets, pair: number): UdpSockets => ({
  ...sockets,
  ...(sockets.further ?? [])[pair - 1],
});

const openFirst = (scratch: Arena, wanted: number): SocketPair & { readonly port: number } => {
  for (let attempt = 1; ; attempt++) {
    const v4 = openSocket(scratch, AF_INET, wanted);
    try {
      const port = boundPort(scratch, v4);
      const v6 = openV6(scratch, port, wanted === 0 && attempt < PORT_ATTEMPTS);
      if (v6 !== 'taken') return { port, v4, v6 };
      close(v4);
    } catch (error) {
      close(v4);
      throw error;
    }
  }
};

interface SharedPort {
  readonly pairs: readonly WorkerSockets[];
  readonly guard?: SocketPair | undefined;
}

const openPairs = (
  scratch: Arena,
  first: SocketPair & { readonly port: number },
  { pairs = 1, sparseFirst = false }: UdpOptions,
  opened: number[],
): SharedPort => {
  if (pairs === 1 && !sparseFirst) return { pairs: [first] };
  const further: number[] = [];
  try {
    const shared = openShared(scratch, first, { pairs, sparseFirst }, further);
    if (shared.isOurs || pairs > 1) {
      opened.push(...further);
      return shared;
    }
  } catch (error) {
    if (pairs > 1) {
      opened.push(...further);
      throw error;
    }
  }
  // One pair does without, rather than with a port that others may share.
  for (const fd of further) close(fd);
  for (const fd of existing(first)) unsharePort(scratch, fd);
  return { pairs: [first] };
};

/**
 * The first sockets hold the port until all are there, so nobody else's are among those that share it. Nor can they be later, if
 * it `isOurs`: the last of IPv4 and the first of IPv6 are the guard's.
 */
const openShared = (
  scratch: Arena,
  first: SocketPair & { readonly port: number },
  { pairs: count, sparseFirst }: { readonly pairs: number; readonly sparseFirst: boolean },
  opened: number[],
): SharedPort & { readonly isOurs: boolean } => {
  const hasV6 = first.v6 >= 0;
  for (const fd of existing(first)) sharePort(scratch, fd);
  const openOne = (family: number): number => {
    const fd = openSocket(scratch, family, first.port, true);
    opened.push(fd);
    return fd;
  };
  const openBoth = (v4 = openOne(AF_INET)): SocketPair => ({ v4, v6: hasV6 ? openOne(AF_INET6) : -1 });
  const own = Array.from({ length: count }, (_, pair) => openBoth(pair === 0 ? first.v4 : undefined));
  const sparse = own.map(() => (sparseFirst ? openBoth() : undefined));
  const guard = { v4: openOne(AF_INET), v6: first.v6 };
  const placesOf = (isV6: boolean): Places => {
    const from = isV6 ? 1 : 0;
    return { isV6, pairs: count, first: from, firstSparse: sparseFirst ? from + count : from };
  };
  steer(scratch, first.v4, placesOf(false));
  if (hasV6) steer(scratch, first.v6, placesOf(true));
  const isOurs = existing(guard).every((fd) => keepOthersOut(scratch, fd));
  return { pairs: own.map((sockets, pair) => ({ ...sockets, sparse: sparse[pair] })), guard, isOurs };
};

/**
 * Moves the sockets to another port, for all threads at once and without a moment in between: the descriptors stay, and what
 * they stand for is replaced. Who sleeps in poll on them has to be woken. Throws, and changes nothing, when the port is taken.
 */
export const rebindUdp = (
  sockets: UdpSockets,
  options: Pick<UdpOptions, 'port' | 'allowOffloads'> & { readonly mark: number },
): UdpSockets => {
  const own = pairsOf(sockets);
  const pairs = 1 + (sockets.further ?? []).length;
  const moved = openUdp({ ...options, pairs, sparseFirst: sockets.sparse !== undefined });
  try {
    if (options.mark !== 0) setUdpMark(moved, options.mark);
    const by = pairsOf(moved);
    if (by.length !== own.length)
      throw new Vl3Error('failed-precondition', 'the kernel does not share this port as the one before');
    own.forEach(({ v4, v6 }, pair) => {
      const { v4: by4 = -1, v6: by6 = -1 } = by[pair] ?? {};
      replace(v4, by4);
      // A machine that had no IPv6 when the port was opened goes on without.
      if (v6 >= 0 && by6 >= 0) replace(v6, by6);
    });
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
  const all = pairsOf(sockets).flatMap(({ v4, v6 }) => [[v4, AF_INET] as const, [v6, AF_INET6] as const]);
  for (const [fd, family] of all) {
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
export const setUdpMark = (sockets: UdpSockets, mark: number): void => {
  const scratch = new Arena(64);
  try {
    for (const fd of descriptorsOf(sockets))
      if (!setInt(scratch, fd, SOL_SOCKET, SO_MARK, mark | 0))
        throw new Vl3Error('permission-denied', `cannot set the mark ${mark}: ${errnoName(errno())}`);
  } finally {
    scratch.unmap();
  }
};

export const closeUdp = (sockets: UdpSockets): void => {
  for (const fd of descriptorsOf(sockets)) close(fd);
};

/** All that are bound to the port. */
const pairsOf = ({ v4, v6, sparse, further = [], guard }: UdpSockets): SocketPair[] =>
  [{ v4, v6 }, sparse, ...further.flatMap((one) => [one, one.sparse]), guard].filter(
    (one) => one !== undefined,
  );

const existing = ({ v4, v6 }: SocketPair): number[] => [v4, v6].filter((fd) => fd >= 0);

const descriptorsOf = (sockets: UdpSockets): number[] => [
  ...pairsOf(sockets).flatMap(existing),
  ...[sockets, ...(sockets.further ?? [])].flatMap(({ raw6 }) => raw6 ?? []),
];

/** It receives nothing. */
const openRaw6 = (): number | undefined => {
  const fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  return fd < 0 ? undefined : fd;
};

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

/** `isShared`: with those at that port, who have to have said the same. */
const openSocket = (scratch: Arena, family: number, port: number, isShared = false): number => {
  const fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SocketError(errno(), port, family);
  const set = (level: number, option: number, value: number): boolean =>
    setInt(scratch, fd, level, option, value);
  if (family === AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (isShared) sharePort(scratch, fd);
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

/** struct timeval: seconds, microseconds. */
const setSendTimeout = (scratch: Arena, fd: number): void => {
  scratch.setUint64(0, 0);
  scratch.setUint64(8, SEND_TIMEOUT_MS * 1000);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, scratch.address, 16);
};
