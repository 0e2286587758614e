// A tunnel that does nothing but carry: what comes off the TUN goes out as one UDP send, and what comes in goes to the TUN as it
// is. No crypto, no lookups, no cutting: what is left for any tunnel in userspace that copies as we do.
//
//   tun-copy.ts NAME PORT REMOTE_ADDRESS REMOTE_PORT
//
// On the wire, cut by the kernel into datagrams of SEGMENT bytes (the last one may be shorter):
//    0 length of the rest   u32      4 virtio_net_hdr, 10 B      14 packet

import { MessageBatch } from '../../../../src/datapath/message-batch.ts';
import { encodePath, sockaddrLength } from '../../../../src/datapath/sockaddr.ts';
import { openTun } from '../../../../src/datapath/tun.ts';
import { openUdp } from '../../../../src/datapath/udp.ts';
import { MSG_DONTWAIT, POLLIN, poll, read, recvmmsg, sendmsg, write } from '../../../../src/ffi/libc.ts';
import { Arena } from '../../../../src/ffi/memory.ts';

const SEGMENT = 1424;
const ROOM = 1 << 16;
const BATCH = 16;
const LENGTH = 4;
/** One way is not to starve the other. */
const MOST_A_TURN = 64;

const [name = '', port = '', address = '', remotePort = ''] = process.argv.slice(2);
const arena = new Arena((BATCH + 2) * ROOM + (1 << 16));
const tun = openTun({ name, netns: undefined, allowOffloads: true, isPersistent: false });
const udp = openUdp({ port: Number(port), allowOffloads: true });
const fds = arena.allocate(16);
for (const [i, fd] of [tun.fd, udp.v4].entries()) {
  arena.view.setInt32(fds + i * 8, fd, true);
  arena.view.setInt16(fds + i * 8 + 4, POLLIN, true);
}

const outgoing = new MessageBatch(arena, 1, 1);
const outRoom = arena.allocate(ROOM + LENGTH);
const path = encodePath({ address, port: Number(remotePort) });
arena.bytes.set(path, outgoing.pathOffset(0));
outgoing.setNameLength(0, sockaddrLength(path[0] ?? 0));
outgoing.setPartCount(0, 1);

const incoming = new MessageBatch(arena, BATCH, 1);
const inRoom = arena.allocate(BATCH * ROOM);
for (let i = 0; i < BATCH; i++) {
  incoming.setPart(i, 0, inRoom + i * ROOM, ROOM);
  incoming.setPartCount(i, 1);
}

const carryOut = (): void => {
  for (let i = 0; i < MOST_A_TURN; i++) {
    const length = read(tun.fd, arena.address + outRoom + LENGTH, ROOM);
    if (length <= 0) return;
    arena.view.setUint32(outRoom, length, true);
    outgoing.setPart(0, 0, outRoom, LENGTH + length);
    outgoing.setControl(0, LENGTH + length > SEGMENT ? SEGMENT : 0, 0);
    sendmsg(udp.v4, outgoing.addressOf(0), 0);
  }
};

const carryIn = (): void => {
  for (let i = 0; i < BATCH; i++) incoming.prepareReceive(i);
  const count = recvmmsg(udp.v4, incoming.addressOf(0), BATCH, MSG_DONTWAIT, 0);
  for (let i = 0; i < count; i++) {
    incoming.readControl(i);
    const start = inRoom + i * ROOM;
    const end = start + incoming.lengthOf(i);
    const segment = incoming.segmentSize === 0 ? ROOM : incoming.segmentSize;
    // Small packets of one size may have been joined on the way; each begins a datagram.
    for (let at = start; at + LENGTH < end; ) {
      const length = arena.view.getUint32(at, true);
      if (length > end - at - LENGTH) break;
      write(tun.fd, arena.address + at + LENGTH, length);
      at += Math.ceil((LENGTH + length) / segment) * segment;
    }
  }
};

console.log(`ready ${tun.offload}`);
for (;;) {
  poll(arena.address + fds, 2, 1000);
  carryOut();
  carryIn();
}
