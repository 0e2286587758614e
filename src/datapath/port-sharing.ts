// Several workers' sockets at one UDP port (SO_REUSEPORT): the kernel asks a program which of them gets a datagram.

import { fchownSync } from 'node:fs';
import { Vl3Error } from '../../native-free/error.ts';
import {
  TRANSPORT_MINIMUM_LENGTH,
  TRANSPORT_RECEIVER_OFFSET,
  TRANSPORT_TYPE,
} from '../../native-free/wire/message.ts';
import { LOW_LATENCY_CLASS } from '../../native-free/wire/sparse-flows.ts';
import { errno, errnoName, setsockopt } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { SOL_SOCKET, setInt } from './socket-options.ts';

const SO_RCVBUF = 8;
const SO_REUSEPORT = 15;
const SO_ATTACH_REUSEPORT_CBPF = 51;

/** Before it is bound: only then may it have a port that others have, who have said the same. */
export const sharePort = (scratch: Arena, fd: number): boolean =>
  setInt(scratch, fd, SOL_SOCKET, SO_REUSEPORT, 1);

/** Nobody else may have it from now on. */
export const unsharePort = (scratch: Arena, fd: number): boolean =>
  setInt(scratch, fd, SOL_SOCKET, SO_REUSEPORT, 0);

/** Nobody's. */
const OTHER_USER = 0xffff_fff0;

/**
 * The kernel lets sockets of one user share a port: any process of root's, in a container without privileges too, could add its
 * own, and a program that gives it all there is. It asks one of those that are there, in IPv4 the last, in IPv6 the first: that one
 * is another user's, and receives nothing. False: we may not give it away (CAP_CHOWN).
 */
export const keepOthersOut = (scratch: Arena, fd: number): boolean => {
  setInt(scratch, fd, SOL_SOCKET, SO_RCVBUF, 0);
  try {
    fchownSync(fd, OTHER_USER, -1);
    return true;
  } catch {
    return false;
  }
};

const BPF_LOAD_BYTE = 0x30;
const BPF_LOAD_HALF = 0x28;
const BPF_LOAD_CONSTANT_TO_X = 0x01;
const BPF_LOAD_LENGTH = 0x80;
const BPF_JUMP_IF_EQUAL = 0x15;
const BPF_JUMP_IF_AT_LEAST = 0x35;
const BPF_SHIFT_RIGHT = 0x74;
const BPF_AND = 0x54;
const BPF_ADD_X = 0x0c;
const BPF_RETURN_ACCUMULATOR = 0x16;
const BPF_RETURN = 0x06;
/** Offsets from here on are those in the IP header (SKF_NET_OFF). */
const IP_HEADER = 0xfff0_0000;
/** struct sock_filter: code u16, jump if true u8, if false u8, operand u32. */
const SOCK_FILTER = 8;
/** struct sock_fprog: count u16, pointer at 8. */
const SOCK_FPROG = 16;

/** Which of the sockets at a port are whose, by the order in which they were bound. */
export interface Places {
  readonly isV6: boolean;
  readonly pairs: number;
  /** Of the first pair's, beside which are those of the others. */
  readonly first: number;
  /** Likewise, for messages of sparse flows. */
  readonly firstSparse: number;
}

/**
 * Of sockets that share a port the kernel asks this classic BPF program, which sees a datagram's payload and its IP header, for the
 * number of the one that gets it: of transport data by the low bits of the receiver index, which is little-endian, and by the
 * traffic class; of all else the first pair's. What it joins to one datagram goes where the first goes.
 */
export const steer = (scratch: Arena, fd: number, { isV6, pairs, first, firstSparse }: Places): void => {
  const program = [
    // What is too short would end the program, and be the very first socket's.
    [BPF_LOAD_LENGTH, 0, 0, 0],
    [BPF_JUMP_IF_AT_LEAST, 0, 12, TRANSPORT_MINIMUM_LENGTH],
    [BPF_LOAD_BYTE, 0, 0, 0],
    [BPF_JUMP_IF_EQUAL, 0, 10, TRANSPORT_TYPE],
    [BPF_LOAD_CONSTANT_TO_X, 0, 0, first],
    // The six bits of the DSCP, behind the version and before ECN.
    isV6 ? [BPF_LOAD_HALF, 0, 0, IP_HEADER] : [BPF_LOAD_BYTE, 0, 0, IP_HEADER + 1],
    [BPF_SHIFT_RIGHT, 0, 0, isV6 ? 6 : 2],
    [BPF_AND, 0, 0, 0x3f],
    [BPF_JUMP_IF_EQUAL, 0, 1, LOW_LATENCY_CLASS >>> 2],
    [BPF_LOAD_CONSTANT_TO_X, 0, 0, firstSparse],
    [BPF_LOAD_BYTE, 0, 0, TRANSPORT_RECEIVER_OFFSET],
    [BPF_AND, 0, 0, pairs - 1],
    [BPF_ADD_X, 0, 0, 0],
    [BPF_RETURN_ACCUMULATOR, 0, 0, 0],
    [BPF_RETURN, 0, 0, first],
  ] as const;
  const { view } = scratch;
  for (const [i, [code, ifTrue, ifFalse, operand]] of program.entries()) {
    const at = SOCK_FPROG + i * SOCK_FILTER;
    view.setUint16(at, code, true);
    view.setUint8(at + 2, ifTrue);
    view.setUint8(at + 3, ifFalse);
    view.setUint32(at + 4, operand, true);
  }
  scratch.setUint64(0, program.length);
  scratch.setPointer(8, SOCK_FPROG);
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, scratch.address, SOCK_FPROG) < 0)
    throw new Vl3Error(
      'failed-precondition',
      `the kernel does not let several workers share a port (${errnoName(errno())}): start with one pair of workers`,
    );
};
