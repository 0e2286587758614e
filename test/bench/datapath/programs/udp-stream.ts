// UDP as an application sends it that leaves the cutting to the kernel: many datagrams a send (UDP_SEGMENT), many a receive
// (UDP_GRO), as QUIC stacks do. iperf3 does neither.
//
//   udp-stream.ts receive PORT                             prints what came, once the sender says that it is through
//   udp-stream.ts send ADDRESS PORT PAYLOAD SECONDS        as much as will go

import { MessageBatch } from '../../../../src/datapath/message-batch.ts';
import { encodePath, sockaddrLength } from '../../../../src/datapath/sockaddr.ts';
import { openUdp } from '../../../../src/datapath/udp.ts';
import { MSG_DONTWAIT, POLLIN, poll, recvmmsg, sendmsg } from '../../../../src/ffi/libc.ts';
import { Arena } from '../../../../src/ffi/memory.ts';

/** Of one send. */
const MOST_BYTES = 60_000;
const BATCH = 16;
const ROOM = 1 << 16;
/** Shorter than any payload: the sender is through. Said several times, since some may be lost. */
const LAST_WORD = 4;
const LAST_WORDS = 50;
const PATIENCE_MS = 60_000;

const receive = (port: number): void => {
  const { v4 } = openUdp({ port, allowOffloads: true });
  const arena = new Arena((BATCH + 1) * ROOM);
  const batch = new MessageBatch(arena, BATCH, 1);
  const fds = arena.allocate(8);
  arena.view.setInt32(fds, v4, true);
  arena.view.setInt16(fds + 4, POLLIN, true);
  const rooms = arena.allocate(BATCH * (ROOM - 4096));
  for (let i = 0; i < BATCH; i++) {
    batch.setPart(i, 0, rooms + i * (ROOM - 4096), ROOM - 4096);
    batch.setPartCount(i, 1);
  }
  console.log('listening');
  let bytes = 0;
  let began = 0;
  let last = 0;
  let isOver = false;
  const patience = performance.now() + PATIENCE_MS;
  while (!isOver && performance.now() < patience) {
    poll(arena.address + fds, 1, 1000);
    for (let i = 0; i < BATCH; i++) batch.prepareReceive(i);
    const count = recvmmsg(v4, batch.addressOf(0), BATCH, MSG_DONTWAIT, 0);
    const now = performance.now();
    for (let i = 0; i < count; i++) {
      const length = batch.lengthOf(i);
      if (length <= LAST_WORD) {
        isOver = true;
        continue;
      }
      if (began === 0) began = now;
      bytes += length;
      last = now;
    }
  }
  console.log(JSON.stringify({ bytes, seconds: (last - began) / 1000 }));
};

const send = (address: string, port: number, payload: number, seconds: number): void => {
  const { v4 } = openUdp({ port: 0, allowOffloads: true });
  const arena = new Arena(2 * ROOM);
  const batch = new MessageBatch(arena, 1, 1);
  const room = arena.allocate(ROOM);
  const path = encodePath({ address, port });
  arena.bytes.set(path, batch.pathOffset(0));
  batch.setNameLength(0, sockaddrLength(path[0] ?? 0));
  batch.setPartCount(0, 1);
  const length = Math.min(64, Math.floor(MOST_BYTES / payload)) * payload;
  batch.setPart(0, 0, room, length);
  batch.setControl(0, payload, 0);
  const end = performance.now() + seconds * 1000;
  let sent = 0;
  while (performance.now() < end) if (sendmsg(v4, batch.addressOf(0), 0) === length) sent += length;
  batch.setPart(0, 0, room, LAST_WORD);
  batch.setControl(0, 0, 0);
  for (let i = 0; i < LAST_WORDS; i++) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    sendmsg(v4, batch.addressOf(0), 0);
  }
  console.log(JSON.stringify({ bytes: sent, seconds }));
};

const [what, ...rest] = process.argv.slice(2);
const [first = '', second = '', third = '', fourth = ''] = rest;
if (what === 'receive') receive(Number(first));
else send(first, Number(second), Number(third), Number(fourth));
