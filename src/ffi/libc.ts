// The system calls the datapath needs, through the FFI library. Pointers are plain numbers (addresses), so that a
// call costs tens of nanoseconds; a negative result means failure, and errno() tells why. Not here: any policy.
// Struct layouts are 64-bit little-endian Linux (include/uapi); each is named in the table of its user.

import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load(null);
const POINTER = 'uintptr_t';

type Address = number;

/** What not every C library has: there, it does nothing, and returns `otherwise`. */
const optional = <V extends number | string>(
  name: string,
  parameters: string[],
  otherwise = 0,
): ((...values: V[]) => number) => {
  try {
    return libc.func(name, 'int', parameters);
  } catch {
    return () => otherwise;
  }
};

export const read: (fd: number, buffer: Address, length: number) => number = libc.func('read', 'long', [
  'int',
  POINTER,
  'size_t',
]);
export const write: (fd: number, buffer: Address, length: number) => number = libc.func('write', 'long', [
  'int',
  POINTER,
  'size_t',
]);
export const writev: (fd: number, iov: Address, count: number) => number = libc.func('writev', 'long', [
  'int',
  POINTER,
  'int',
]);
export const poll: (fds: Address, count: number, timeoutMs: number) => number = libc.func('poll', 'int', [
  POINTER,
  'ulong',
  'int',
]);
export const recvmmsg: (
  fd: number,
  messages: Address,
  count: number,
  flags: number,
  timeout: Address,
) => number = libc.func('recvmmsg', 'int', ['int', POINTER, 'uint', 'int', POINTER]);
export const sendmsg: (fd: number, message: Address, flags: number) => number = libc.func('sendmsg', 'long', [
  'int',
  POINTER,
  'int',
]);
export const sendmmsg: (fd: number, messages: Address, count: number, flags: number) => number = libc.func(
  'sendmmsg',
  'int',
  ['int', POINTER, 'uint', 'int'],
);
export const sendto: (
  fd: number,
  buffer: Address,
  length: number,
  flags: number,
  address: Address,
  addressLength: number,
) => number = libc.func('sendto', 'long', ['int', POINTER, 'size_t', 'int', POINTER, 'uint']);

export const open: (path: string, flags: number) => number = libc.func('open', 'int', ['str', 'int']);
export const close: (fd: number) => number = libc.func('close', 'int', ['int']);
/** Makes `to` another name of what `from` is, whatever it was before, in one step. */
export const dup3: (from: number, to: number, flags: number) => number = libc.func('dup3', 'int', [
  'int',
  'int',
  'int',
]);
export const ioctl: (fd: number, request: number, argument: Address) => number = libc.func('ioctl', 'int', [
  'int',
  'ulong',
  POINTER,
]);
export const EPOLL_CTL_ADD = 1;
export const epollCreate: (flags: number) => number = libc.func('epoll_create1', 'int', ['int']);
export const epollControl: (epoll: number, operation: number, fd: number, event: Address) => number =
  libc.func('epoll_ctl', 'int', ['int', 'int', 'int', POINTER]);
export const epollWait: (epoll: number, events: Address, most: number, timeoutMs: number) => number =
  libc.func('epoll_wait', 'int', ['int', POINTER, 'int', 'int']);
export const eventfd: (initial: number, flags: number) => number = libc.func('eventfd', 'int', [
  'uint',
  'int',
]);
export const socket: (domain: number, type: number, protocol: number) => number = libc.func('socket', 'int', [
  'int',
  'int',
  'int',
]);
/** `pair`: where the two descriptors go, an int each. */
export const socketpair: (domain: number, type: number, protocol: number, pair: Address) => number =
  libc.func('socketpair', 'int', ['int', 'int', 'int', POINTER]);
export const bind: (fd: number, address: Address, length: number) => number = libc.func('bind', 'int', [
  'int',
  POINTER,
  'uint',
]);
export const connect: (fd: number, address: Address, length: number) => number = libc.func('connect', 'int', [
  'int',
  POINTER,
  'uint',
]);
export const getsockname: (fd: number, address: Address, length: Address) => number = libc.func(
  'getsockname',
  'int',
  ['int', POINTER, POINTER],
);
export const setsockopt: (
  fd: number,
  level: number,
  option: number,
  value: Address,
  length: number,
) => number = libc.func('setsockopt', 'int', ['int', 'int', 'int', POINTER, 'uint']);
export const mmap: (
  hint: Address,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => number = libc.func('mmap', 'long', [POINTER, 'size_t', 'int', 'int', 'int', 'long']);
export const munmap: (address: Address, length: number) => number = libc.func('munmap', 'int', [
  POINTER,
  'size_t',
]);
export const madvise: (address: Address, length: number, advice: number) => number = libc.func(
  'madvise',
  'int',
  ['uintptr_t', 'size_t', 'int'],
);
/** Anonymous memory that can be mapped more than once; -1 where there is none. */
export const memfdCreate: (name: string, flags: number) => number = optional<string | number>(
  'memfd_create',
  ['str', 'uint'],
  -1,
);
export const ftruncate: (fd: number, length: number) => number = libc.func('ftruncate', 'int', [
  'int',
  'long',
]);
/** glibc's; elsewhere nothing happens. */
export const mallocTrim: (pad: number) => number = optional('malloc_trim', ['size_t']);
export const mallopt: (parameter: number, value: number) => number = optional('mallopt', ['int', 'int']);

/** What not every C library has a function for, by its number. */
export const syscall: (
  number: number,
  first: number,
  second: number,
  third: number,
  fourth: number,
) => number = libc.func('syscall', 'long', ['long', POINTER, POINTER, POINTER, POINTER]);

export const setns: (fd: number, kind: number) => number = libc.func('setns', 'int', ['int', 'int']);
export const clockGettime: (clock: number, timespec: Address) => number = libc.func('clock_gettime', 'int', [
  'int',
  POINTER,
]);
export const ifNameToIndex: (name: string) => number = libc.func('if_nametoindex', 'uint', ['str']);
export const ifIndexToName: (index: number, buffer: Address) => number = libc.func(
  'if_indextoname',
  POINTER,
  ['uint', POINTER],
);

/** The failed call's errno: read it before any other call. */
export const errno = (): number => koffi.errno();

/** "EBUSY" and the like. */
export const errnoName = (code: number): string => (code > 0 ? getSystemErrorName(-code) : 'OK');

/** The address of a typed array's first byte. It is fixed as long as the array's (off-heap) buffer lives. */
export const addressOf = (bytes: Uint8Array): number => Number(koffi.address(bytes));

/** The `length` bytes at an address as an ArrayBuffer; the caller keeps the memory mapped as long as it is used. */
export const viewOf = (address: Address, length: number): ArrayBuffer => koffi.view(address, length);

export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EAGAIN = 11;
export const EBUSY = 16;
export const EINVAL = 22;
export const EPERM = 1;
export const EACCES = 13;
export const EMSGSIZE = 90;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETUNREACH = 101;
export const EAFNOSUPPORT = 97;
export const ENODEV = 19;
export const ENXIO = 6;

export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_NONBLOCK = 0x800;
export const O_CLOEXEC = 0x80000;
export const MFD_CLOEXEC = 1;
/** Since Linux 6.3, which may ask for it. */
export const MFD_NOEXEC_SEAL = 8;
export const CLONE_NEWNET = 0x40000000;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_FIXED = 0x10;
export const MADV_DONTNEED = 4;
/** Of mallopt. */
export const M_ARENA_MAX = -8;
export const MAP_ANONYMOUS = 0x20;
/** x86-64 only. */
export const MAP_32BIT = 0x40;
export const POLLIN = 1;
export const POLLOUT = 4;
export const MSG_DONTWAIT = 0x40;
