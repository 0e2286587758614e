// A UDP or TCP socket in another network namespace, as a descriptor that Node takes over (`bind({ fd })`, `listen({ fd })`).
// A socket stays for good where the thread was when it was made.

import { Vl3Error } from '../../native-free/error.ts';
import { type Address, formatAddress } from '../../native-free/ipam/prefix.ts';
import { AF_INET, AF_INET6, encodeSockaddr, SOCKADDR_LENGTH, sockaddrLength } from '../datapath/sockaddr.ts';
import { inNamespace } from '../datapath/tun.ts';
import { bind, close, errno, errnoName, setsockopt, socket } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IP = 0;
const IP_FREEBIND = 15;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const IPV6_FREEBIND = 78;

/** Where the value of an option is, behind the address. */
const OPTION = 32;

/** A bound socket in the namespace at `netns`; the address may come later. The caller closes it. Throws Vl3Error. */
export const bindIn = (netns: string, kind: 'udp' | 'tcp', address: Address, port: number): number => {
  const family = address.family === 4 ? AF_INET : AF_INET6;
  const type = (kind === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = inNamespace(netns, () => socket(family, type, 0));
  if (fd < 0) throw failure('make', kind, address, port);
  const memory = new Arena(OPTION + 4);
  try {
    memory.bytes.set(
      encodeSockaddr({ address: formatAddress(address), port }).subarray(0, SOCKADDR_LENGTH),
      0,
    );
    memory.view.setInt32(OPTION, 1, true);
    const options: (readonly [number, number])[] =
      family === AF_INET
        ? [[IPPROTO_IP, IP_FREEBIND]]
        : [
            [IPPROTO_IPV6, IPV6_V6ONLY],
            [IPPROTO_IPV6, IPV6_FREEBIND],
          ];
    // Connections of an agent that was here before may linger. For UDP it would let two agents share the port.
    if (kind === 'tcp') options.push([SOL_SOCKET, SO_REUSEADDR]);
    for (const [level, option] of options) setsockopt(fd, level, option, memory.address + OPTION, 4);
    if (bind(fd, memory.address, sockaddrLength(family)) < 0) throw failure('bind', kind, address, port);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  } finally {
    memory.unmap();
  }
};

const failure = (what: string, kind: string, address: Address, port: number): Vl3Error =>
  new Vl3Error(
    'unavailable',
    `cannot ${what} a ${kind} socket at ${formatAddress(address)} port ${port}: ${errnoName(errno())}`,
  );
