// The inside: a persistent, multi-queue TUN in a network's router namespace, opened or taken up again by name.
// The calling thread enters that namespace for the moment of opening and always returns to its own; the descriptor
// then works from any thread. Packets are preceded by a virtio_net_hdr. Layouts: linux/if_tun.h, net/if.h.

import { Vl3Error } from '../../native-free/error.ts';
import {
  CLONE_NEWNET,
  close,
  EACCES,
  EBUSY,
  EINVAL,
  ENODEV,
  ENOENT,
  ENXIO,
  EPERM,
  errno,
  errnoName,
  ioctl,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  open,
  setns,
  socket,
} from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;

const SIOCGIFTXQLEN = 0x8942;
const SIOCSIFTXQLEN = 0x8943;
const AF_INET = 2;
const SOCK_DGRAM = 2;

// struct ifreq
const IFREQ_LENGTH = 40;
const IFREQ_FLAGS = 16;
const IFREQ_QUEUE = 16;
const IFNAMSIZ = 16;

const IFF_TUN = 0x0001;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const FLAGS = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;

const VNET_HEADER_LENGTH = 10;

const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;
const TCP_OFFLOAD = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
const ALL_OFFLOAD = TCP_OFFLOAD | TUN_F_USO4 | TUN_F_USO6;

/** Of packets that wait for us. At 100 000 small ones a second the kernel's own 500 are full when we do not run for 5 ms, */
const KERNELS_QUEUE = 500;
/** and these after 20. Of TCP it is the receiver's window that limits what waits, not this. */
const QUEUE = 2000;

/** What the kernel may hand over, and take, as super-packets. */
export type TunOffload = 'tcp+udp' | 'tcp' | 'none';

export interface TunOptions {
  readonly name: string;
  /** Path of the network namespace; undefined: the calling thread's own. */
  readonly netns: string | undefined;
  /** False: the kill switch; single packets only. */
  readonly allowOffloads: boolean;
  /** False: it goes with its last descriptor. Default true. */
  readonly isPersistent?: boolean;
  /** One for each pair of workers; the kernel keeps a flow's packets in one of them. Default 1. */
  readonly queues?: number;
}

export interface Tun {
  readonly name: string;
  /** Of its first queue. */
  readonly fd: number;
  /** Of further queues. */
  readonly further?: readonly number[];
  readonly offload: TunOffload;
}

/** Makes the TUN, or takes it up again with the addresses and routes it has. The caller closes it. */
export const openTun = (options: TunOptions): Tun => {
  // The kernel would put a number in place of "%d".
  if (!/^[^\s/:%]{1,15}$/.test(options.name)) {
    throw new Vl3Error(
      'invalid-argument',
      `"${options.name}" cannot name an interface: use 1 to 15 characters without spaces, "/", ":" and "%"`,
    );
  }
  return inNamespace(options.netns, () => {
    const fd = openQueue(options.name);
    const further: number[] = [];
    try {
      if (options.isPersistent !== false && ioctl(fd, TUNSETPERSIST, 1) < 0)
        throw failure(options.name, 'make persistent', errno());
      lengthenQueue(options.name, options.queues ?? 1);
      while (1 + further.length < (options.queues ?? 1)) further.push(openQueue(options.name));
      const offload = setOffload(options.name, fd, options.allowOffloads);
      return { name: options.name, fd, further, offload };
    } catch (error) {
      for (const queue of [fd, ...further]) close(queue);
      throw error;
    }
  });
};

/** Lets go of the TUN; it stays, with its addresses and routes, until it is taken up again. */
export const closeTun = (tun: Tun): void => {
  for (const fd of queuesOf(tun)) close(fd);
};

/** The descriptors of its queues. */
export const queuesOf = ({ fd, further = [] }: Tun): readonly number[] => [fd, ...further];

/** Removes the TUN for good. */
export const removeTun = (tun: Tun): void => {
  ioctl(tun.fd, TUNSETPERSIST, 0);
  closeTun(tun);
};

/** Runs `work` with this thread in another network namespace, and comes back whatever happens. */
export const inNamespace = <T>(netns: string | undefined, work: () => T): T => {
  if (netns === undefined) return work();
  const own = open('/proc/thread-self/ns/net', O_RDONLY | O_CLOEXEC);
  if (own < 0) throw new Vl3Error('internal', `cannot see my own network namespace: ${errnoName(errno())}`);
  try {
    enter(netns);
    try {
      return work();
    } finally {
      if (setns(own, CLONE_NEWNET) < 0) strand(netns);
    }
  } finally {
    close(own);
  }
};

const enter = (netns: string): void => {
  const fd = open(netns, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    throw new Vl3Error(
      'not-found',
      `there is no network namespace at ${netns} (${errnoName(errno())}): create it first, for example with ip netns add`,
    );
  }
  const result = setns(fd, CLONE_NEWNET);
  const code = errno();
  close(fd);
  if (result === 0) return;
  if (code === EPERM) throw notPermitted(`enter the network namespace ${netns}`);
  throw new Vl3Error(
    'invalid-argument',
    `${netns} cannot be entered as a network namespace (${errnoName(code)}): give the path of one, like /run/netns/NAME`,
  );
};

/** Going on in the wrong namespace would put sockets and interfaces where they do not belong. */
const strand = (netns: string): never => {
  process.stderr.write(`cannot return from the network namespace ${netns}: ${errnoName(errno())}\n`);
  process.abort();
};

const openQueue = (name: string): number => {
  const fd = open('/dev/net/tun', O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    const code = errno();
    if (code === ENOENT || code === ENXIO || code === ENODEV) {
      throw new Vl3Error(
        'failed-precondition',
        'there is no /dev/net/tun: load the kernel module (modprobe tun), or give the container that device',
      );
    }
    if (code === EPERM || code === EACCES) throw notPermitted('open /dev/net/tun');
    throw new Vl3Error('failed-precondition', `cannot open /dev/net/tun: ${errnoName(code)}`);
  }
  const request = new Arena(IFREQ_LENGTH);
  request.bytes.set(new TextEncoder().encode(name).subarray(0, IFNAMSIZ - 1), 0);
  request.view.setUint16(IFREQ_FLAGS, FLAGS, true);
  const result = ioctl(fd, TUNSETIFF, request.address);
  const code = errno();
  request.view.setInt32(0, VNET_HEADER_LENGTH, true);
  const sized = result < 0 || ioctl(fd, TUNSETVNETHDRSZ, request.address) === 0;
  const sizeCode = errno();
  request.unmap();
  if (result === 0 && sized) return fd;
  close(fd);
  if (result === 0) throw failure(name, 'set the header size of', sizeCode);
  if (code === EPERM || code === EACCES) throw notPermitted(`open the interface ${name}`);
  if (code === EBUSY) {
    throw new Vl3Error(
      'already-exists',
      `the interface ${name} is in use by another program: stop that, or choose another name`,
    );
  }
  if (code === EINVAL) {
    throw new Vl3Error(
      'already-exists',
      `there is an interface ${name} that is not a TUN of ours: remove it (ip link delete ${name}), or choose another name`,
    );
  }
  throw failure(name, 'open', code);
};

/** Unless somebody has set it: what each of its queues may hold. Without it all works. */
const lengthenQueue = (name: string, queues: number): void => {
  const fd = socket(AF_INET, SOCK_DGRAM | O_CLOEXEC, 0);
  if (fd < 0) return;
  const request = new Arena(IFREQ_LENGTH);
  request.bytes.set(new TextEncoder().encode(name).subarray(0, IFNAMSIZ - 1), 0);
  const got = ioctl(fd, SIOCGIFTXQLEN, request.address);
  if (got === 0 && request.view.getInt32(IFREQ_QUEUE, true) === KERNELS_QUEUE) {
    request.view.setInt32(IFREQ_QUEUE, Math.max(KERNELS_QUEUE, Math.ceil(QUEUE / queues)), true);
    ioctl(fd, SIOCSIFTXQLEN, request.address);
  }
  request.unmap();
  close(fd);
};

/** Set at every take-up, also to nothing: a TUN remembers what its last owner wanted. */
const setOffload = (name: string, fd: number, allowed: boolean): TunOffload => {
  if (allowed && ioctl(fd, TUNSETOFFLOAD, ALL_OFFLOAD) === 0) return 'tcp+udp';
  if (allowed && ioctl(fd, TUNSETOFFLOAD, TCP_OFFLOAD) === 0) return 'tcp';
  if (ioctl(fd, TUNSETOFFLOAD, 0) < 0) throw failure(name, 'set the offloads of', errno());
  return 'none';
};

const failure = (name: string, what: string, code: number): Vl3Error =>
  new Vl3Error('failed-precondition', `cannot ${what} the interface ${name}: ${errnoName(code)}`);

const notPermitted = (what: string): Vl3Error =>
  new Vl3Error(
    'permission-denied',
    `no privilege to ${what}: run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN`,
  );
