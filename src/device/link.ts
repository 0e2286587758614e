// What the kernel says of a TUN as a link: whether it is up, and its MTU. The interface may have been moved to another
// namespace and renamed since it was opened, so it is asked through its descriptor: which name, which namespace, and then
// there (linux/if_tun.h, netdevice(7)). Not by a write of nothing: with a virtio_net_hdr that fails alike, up or down.

import { inNamespace, type Tun } from '../datapath/tun.ts';
import { close, ioctl, O_CLOEXEC, socket } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';

const TUNGETIFF = 0x800454d2;
const TUNGETDEVNETNS = 0x54e3;
const SIOCGIFFLAGS = 0x8913;
const SIOCGIFMTU = 0x8921;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const IFF_UP = 1;

// struct ifreq: name, then what was asked for.
const IFREQ_LENGTH = 40;
const VALUE = 16;

export interface Link {
  readonly isUp: boolean;
  readonly mtu: number;
}

/** Undefined when it cannot be told: it is gone, or in a namespace that this process may not enter. */
export const readLink = (tun: Tun): Link | undefined => {
  const request = new Arena(IFREQ_LENGTH);
  try {
    if (ioctl(tun.fd, TUNGETIFF, request.address) < 0) return undefined;
    const namespace = ioctl(tun.fd, TUNGETDEVNETNS, 0);
    // Kernels before 5.4 cannot say: then it is taken to be where it was.
    if (namespace < 0) return ask(request);
    try {
      return inNamespace(`/proc/thread-self/fd/${namespace}`, () => ask(request));
    } catch {
      return undefined;
    } finally {
      close(namespace);
    }
  } finally {
    request.unmap();
  }
};

/** In the calling thread's namespace, of the interface that `request` names. */
const ask = (request: Arena): Link | undefined => {
  const fd = socket(AF_INET, SOCK_DGRAM | O_CLOEXEC, 0);
  if (fd < 0) return undefined;
  try {
    if (ioctl(fd, SIOCGIFFLAGS, request.address) < 0) return undefined;
    const isUp = (request.view.getUint16(VALUE, true) & IFF_UP) !== 0;
    if (ioctl(fd, SIOCGIFMTU, request.address) < 0) return undefined;
    return { isUp, mtu: request.view.getInt32(VALUE, true) };
  } finally {
    close(fd);
  }
};
