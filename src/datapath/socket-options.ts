// What is asked of the datapath's UDP sockets, and read from them, one option at a time.

import { getsockname, setsockopt } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { AF_INET, SOCKADDR_LENGTH } from './sockaddr.ts';

export const SOL_SOCKET = 1;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_RECVTOS = 13;
const IP_PKTINFO = 8;
const IPV6_RECVPKTINFO = 49;
const IPV6_RECVTCLASS = 66;

export const setInt = (scratch: Arena, fd: number, level: number, option: number, value: number): boolean => {
  scratch.view.setInt32(0, value, true);
  return setsockopt(fd, level, option, scratch.address, 4) === 0;
};

export const boundPort = (scratch: Arena, fd: number): number => {
  scratch.view.setUint32(64, SOCKADDR_LENGTH, true);
  getsockname(fd, scratch.address, scratch.address + 64);
  return scratch.view.getUint16(2);
};

/** With every datagram: its ECN mark, and which address of ours it was sent to. */
export const askForControl = (scratch: Arena, fd: number, family: number): void => {
  if (family === AF_INET) {
    setInt(scratch, fd, IPPROTO_IP, IP_RECVTOS, 1);
    setInt(scratch, fd, IPPROTO_IP, IP_PKTINFO, 1);
  } else {
    setInt(scratch, fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    setInt(scratch, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  }
};
