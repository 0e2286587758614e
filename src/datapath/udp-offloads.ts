// UDP_SEGMENT and UDP_GRO: tried on the loopback before they are used.

import {
  bind,
  close,
  EPERM,
  errno,
  errnoName,
  MSG_DONTWAIT,
  O_CLOEXEC,
  recvmmsg,
  sendmsg,
  socket,
} from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { MessageBatch } from './message-batch.ts';
import { AF_INET, encodeSockaddr, sockaddrLength } from './sockaddr.ts';
import { askForControl, boundPort, SOL_SOCKET, setInt } from './socket-options.ts';

const SOCK_DGRAM = 2;
const SO_RCVBUFFORCE = 33;
const SOL_UDP = 17;
const UDP_GRO = 104;

export interface UdpOffloads {
  /** UDP_SEGMENT: one send, many datagrams. */
  readonly segmentation: boolean;
  /** UDP_GRO: one receive, many datagrams. */
  readonly coalescing: boolean;
}

export const setOffloads = (scratch: Arena, fds: readonly number[], allowed: boolean): UdpOffloads => {
  if (!allowed || !offloadsWork(scratch)) return { segmentation: false, coalescing: false };
  const accepted = fds.map((fd) => setInt(scratch, fd, SOL_UDP, UDP_GRO, 1));
  return { segmentation: true, coalescing: accepted.every(Boolean) };
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
  const fd = socket(AF_INET, SOCK_DGRAM | O_CLOEXEC, 0);
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
