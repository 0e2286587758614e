// Whether the address of ours that a peer spoke to is still one to answer it from. The kernel's WireGuard answers from there for
// as long as the route to the peer leaves by that address's interface; here the kernel is asked by a socket that is connected
// to the peer and sends nothing. Addresses on no interface or on the loopback are let be: they belong to all routes.

import { networkInterfaces } from 'node:os';
import type { Endpoint } from '../../native-free/device/data-plane.ts';
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  encodeSockaddr,
  SOCKADDR_LENGTH,
  sockaddrLength,
} from '../datapath/sockaddr.ts';
import { close, connect, getsockname, O_CLOEXEC, setsockopt, socket } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';

const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_MARK = 36;

/** Says of endpoints with an address of ours whether to keep that; `mark` is that of the packets. */
export const makeSourceCheck = (mark: number): ((endpoint: Endpoint) => boolean) => {
  const interfaces = interfacesByAddress();
  return ({ local, ...endpoint }) => {
    const held = local === undefined ? undefined : interfaces.get(local);
    if (held === undefined) return true;
    const source = sourceOf(endpoint, mark);
    const used = source === undefined ? undefined : interfaces.get(source);
    return used === undefined || used === held;
  };
};

/** Of the calling thread's namespace; without the loopback's. */
const interfacesByAddress = (): Map<string, string> => {
  const found = new Map<string, string>();
  for (const [name, addresses] of Object.entries(networkInterfaces()))
    for (const { address, internal } of addresses ?? []) if (!internal) found.set(address, name);
  return found;
};

/** The address that the kernel would send from; undefined when there is no way there. */
const sourceOf = (endpoint: Endpoint, mark: number): string | undefined => {
  const family = endpoint.address.includes(':') ? AF_INET6 : AF_INET;
  const fd = socket(family, SOCK_DGRAM | O_CLOEXEC, 0);
  if (fd < 0) return undefined;
  const scratch = new Arena(64);
  try {
    scratch.view.setInt32(0, mark | 0, true);
    if (mark !== 0) setsockopt(fd, SOL_SOCKET, SO_MARK, scratch.address, 4);
    scratch.bytes.set(encodeSockaddr(endpoint), 0);
    if (connect(fd, scratch.address, sockaddrLength(family)) < 0) return undefined;
    scratch.view.setUint32(32, SOCKADDR_LENGTH, true);
    if (getsockname(fd, scratch.address, scratch.address + 32) < 0) return undefined;
    return decodeSockaddr(scratch.bytes)?.address;
  } finally {
    scratch.unmap();
    close(fd);
  }
};
