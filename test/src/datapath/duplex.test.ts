// One thread for both directions. While the socket has no room, what a TUN has stays there, and comes once there is room again.
// What a TUN has as an answer to what was written to it is taken in the same turn; what a peer answers is waited for.

import { closeSync } from 'node:fs';
import { expect, test } from 'vitest';
import { BusyPoll } from '../../../src/datapath/busy-poll.ts';
import { EGRESS_COUNTERS, INGRESS_COUNTERS, readCounts } from '../../../src/datapath/counters.ts';
import { Duplex } from '../../../src/datapath/duplex.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { socketsOfIngress } from '../../../src/datapath/ingress.ts';
import { DUPLEX_ARENA, egressOf, ingressOf } from '../../../src/datapath/loops.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { SharedState } from '../../../src/datapath/shared-state.ts';
import type { SocketPair } from '../../../src/datapath/udp.ts';
import { rounds } from '../../../src/datapath/warm-up-packets.ts';
import { Sandbox, SESSIONS } from '../../../src/datapath/warm-up-sandbox.ts';
import { Sealer } from '../../../src/datapath/warm-up-sealer.ts';
import type { WorkerOptions } from '../../../src/datapath/worker-protocol.ts';
import { O_NONBLOCK, read, socketpair, write } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { workerOptions } from './sandboxed-egress.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const LENGTH = 1000;
const AT_ONCE = 0;
const SHORT_MS = 1;
const PATIENCE_MS = 5000;
/** A small one, behind its virtio_net_hdr. */
const PACKET = [...rounds()][0]?.at(-1) ?? new Uint8Array();

test('reads its TUN again once there is room, also when nothing else waits', () => {
  using sandbox = new Sandbox(workerOptions('duplex'));
  const { options } = sandbox;
  const arena = new Arena(DUPLEX_ARENA + 4096, true);
  const scratch = arena.address + arena.allocate(LENGTH);
  socketpair(AF_UNIX, SOCK_DGRAM | O_NONBLOCK, 0, scratch);
  const offset = scratch - arena.address;
  const [socket, far] = [arena.view.getInt32(offset, true), arena.view.getInt32(offset + 4, true)];
  const duplex = duplexOf(arena, options, new Poller(arena, options.wakeFd, 4), { v4: socket, v6: -1 });
  sandbox.vary(0);
  duplex.configure();

  // Several in one turn: from then on it asks whether there is room.
  for (let n = 0; n < 3; n++) sandbox.sendFromInside(PACKET);
  duplex.turn(AT_ONCE);
  expect(sentBy(options)).toBe(3);
  while (write(socket, scratch, LENGTH) === LENGTH);
  sandbox.sendFromInside(PACKET);
  for (let turn = 0; turn < 5; turn++) duplex.turn(AT_ONCE);
  expect(sentBy(options)).toBe(3);
  while (read(far, scratch, LENGTH) > 0);
  for (let turn = 0; turn < 3; turn++) duplex.turn(AT_ONCE);
  expect(sentBy(options)).toBe(4);

  for (const fd of [socket, far]) closeSync(fd);
  arena.unmap();
});

test('takes what a TUN answers to what was written to it in the same turn', () => {
  using sandbox = new Sandbox(workerOptions('duplex'));
  using sealer = new Sealer(sandbox);
  const { options } = sandbox;
  const arena = new Arena(DUPLEX_ARENA + 4096, true);
  // As a kernel answers: after the poll, before the write returns.
  class AnsweringPoller extends Poller {
    override wait(timeoutMs?: number): boolean {
      const hasCome = super.wait(timeoutMs);
      sandbox.sendFromInside(PACKET);
      return hasCome;
    }
  }
  const fds = socketsOfIngress(options.udp);
  const poller = new AnsweringPoller(arena, options.wakeFd, 4, fds);
  const duplex = duplexOf(arena, options, poller, options.udp);
  sandbox.vary(0);
  duplex.configure();

  sealer.sealPacket(SESSIONS[0], PACKET);
  expect(sealer.send(0)).toBe(true);
  duplex.turn(PATIENCE_MS);
  expect(readCounts(INGRESS_COUNTERS, options.counters.ingress).writes).toBe(1);
  expect(sentBy(options)).toBe(1);
  // What came back of that is a replay to it: this turn writes nothing, and the next packet is only seen by polling.
  duplex.turn(PATIENCE_MS);
  expect(readCounts(INGRESS_COUNTERS, options.counters.ingress)).toMatchObject({
    writes: 1,
    'dropped:replayed': 1,
  });
  expect(sentBy(options)).toBe(1);
  arena.unmap();
});

test('after one packet it polls busily for what comes, and after nothing it sleeps at once', () => {
  using sandbox = new Sandbox(workerOptions('duplex'));
  const { options } = sandbox;
  const arena = new Arena(DUPLEX_ARENA + 4096, true);
  const timeouts: (number | undefined)[] = [];
  class NotedPoller extends Poller {
    override wait(timeoutMs?: number): boolean {
      timeouts.push(timeoutMs);
      return super.wait(timeoutMs);
    }
  }
  const poller = new NotedPoller(arena, options.wakeFd, 4, socketsOfIngress(options.udp));
  const duplex = duplexOf(arena, options, poller, options.udp);
  sandbox.vary(0);
  duplex.configure();
  const timeoutsOf = (timeoutMs: number): (number | undefined)[] => {
    timeouts.length = 0;
    duplex.turn(timeoutMs);
    return [...timeouts];
  };

  expect(timeoutsOf(SHORT_MS)).toEqual([SHORT_MS]);
  sandbox.sendFromInside(PACKET);
  expect(timeoutsOf(PATIENCE_MS)).toEqual([PATIENCE_MS]);
  expect(sentBy(options)).toBe(1);
  // It comes back to the socket that it left by.
  expect(new Set(timeoutsOf(PATIENCE_MS))).toEqual(new Set([AT_ONCE]));
  expect(timeoutsOf(SHORT_MS)).toEqual([SHORT_MS]);
  arena.unmap();
});

const sentBy = ({ counters }: WorkerOptions): number => readCounts(EGRESS_COUNTERS, counters.egress).packets;

const duplexOf = (arena: Arena, options: WorkerOptions, poller: Poller, udp: SocketPair): Duplex => {
  const shared = { poller, events: new EventSink(options.events, options.port) };
  return new Duplex({
    pair: 0,
    egress: egressOf(arena, options, shared),
    ingress: ingressOf(arena, options, shared),
    state: new SharedState(options.memory),
    udp,
    busyPoll: new BusyPoll(poller, options.quietMs),
    ...shared,
    port: options.port,
  });
};
