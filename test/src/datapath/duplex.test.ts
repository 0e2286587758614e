// One thread for both directions while the socket has no room: what a TUN has stays there, and comes once there is room again.

import { closeSync } from 'node:fs';
import { expect, test } from 'vitest';
import { EGRESS_COUNTERS, readCounts } from '../../../src/datapath/counters.ts';
import { Duplex } from '../../../src/datapath/duplex.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { DUPLEX_ARENA, egressOf, ingressOf } from '../../../src/datapath/loops.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { SharedState } from '../../../src/datapath/shared-state.ts';
import { rounds } from '../../../src/datapath/warm-up-packets.ts';
import { Sandbox } from '../../../src/datapath/warm-up-sandbox.ts';
import { O_NONBLOCK, read, socketpair, write } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { workerOptions } from './sandboxed-egress.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const LENGTH = 1000;
const AT_ONCE = 0;

test('reads its TUN again once there is room, also when nothing else waits', () => {
  using sandbox = new Sandbox(workerOptions('duplex'));
  const { options } = sandbox;
  const arena = new Arena(DUPLEX_ARENA + 4096, true);
  const scratch = arena.address + arena.allocate(LENGTH);
  socketpair(AF_UNIX, SOCK_DGRAM | O_NONBLOCK, 0, scratch);
  const offset = scratch - arena.address;
  const [socket, far] = [arena.view.getInt32(offset, true), arena.view.getInt32(offset + 4, true)];
  const shared = {
    poller: new Poller(arena, options.wakeFd, 4),
    events: new EventSink(options.events, options.port),
  };
  const duplex = new Duplex({
    pair: 0,
    egress: egressOf(arena, options, shared),
    ingress: ingressOf(arena, options, shared),
    state: new SharedState(options.memory),
    udp: { v4: socket, v6: -1 },
    ...shared,
    port: options.port,
  });
  const [round = []] = rounds();
  const packet = round.at(-1) ?? new Uint8Array();
  const sent = (): number => readCounts(EGRESS_COUNTERS, options.counters.egress).packets;
  sandbox.vary(0);
  duplex.configure();

  // Several in one turn: from then on it asks whether there is room.
  for (let n = 0; n < 3; n++) sandbox.sendFromInside(packet);
  duplex.turn(AT_ONCE);
  expect(sent()).toBe(3);
  while (write(socket, scratch, LENGTH) === LENGTH);
  sandbox.sendFromInside(packet);
  for (let turn = 0; turn < 5; turn++) duplex.turn(AT_ONCE);
  expect(sent()).toBe(3);
  while (read(far, scratch, LENGTH) > 0);
  for (let turn = 0; turn < 3; turn++) duplex.turn(AT_ONCE);
  expect(sent()).toBe(4);

  for (const fd of [socket, far]) closeSync(fd);
  arena.unmap();
});
