// One thread for both directions. While the socket has no room, what a TUN has stays there, and comes once there is room again.
// What a TUN has as an answer to what was written to it is taken in the same turn; what a peer answers is waited for.

import { closeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { BusyPoll } from '../../../src/datapath/busy-poll.ts';
import { EGRESS_COUNTERS, INGRESS_COUNTERS, readCounts } from '../../../src/datapath/counters.ts';
import { Duplex } from '../../../src/datapath/duplex.ts';
import type { Egress } from '../../../src/datapath/egress.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { socketsOfIngress } from '../../../src/datapath/ingress.ts';
import { DUPLEX_ARENA, egressOf, ingressOf } from '../../../src/datapath/loops.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { SharedState } from '../../../src/datapath/shared-state.ts';
import type { SocketPair } from '../../../src/datapath/udp.ts';
import { rounds, toWaiting } from '../../../src/datapath/warm-up-packets.ts';
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
const LONG_MS = 60_000;
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
  const poller = new Poller(arena, options.wakeFd, 4);
  const [duplex] = duplexOf(arena, options, poller, { v4: socket, v6: -1 });
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

describe('what a TUN answers to what was written to it', () => {
  test('is taken in the same turn', () => {
    using rig = new Rig(0);
    rig.request(1);
    expect(rig.written).toBe(1);
    expect(rig.sent).toBe(1);
  });

  test('waits to be polled while several come at a time', () => {
    using rig = new Rig(0);
    for (let n = 0; n < 3; n++) rig.sandbox.sendFromInside(PACKET);
    rig.duplex.turn(PATIENCE_MS);
    rig.request(1);
    expect(rig.sent).toBe(3);
    rig.duplex.turn(PATIENCE_MS);
    expect(rig.sent).toBe(4);
  });

  test('waits to be polled after there was none, until there is some again', () => {
    using rig = new Rig(0);
    rig.request(0);
    rig.request(1);
    expect(rig.written).toBe(2);
    expect(rig.sent).toBe(0);
    rig.duplex.turn(PATIENCE_MS);
    expect(rig.sent).toBe(1);
    rig.request(1);
    expect(rig.sent).toBe(2);
  });

  test('is looked for in that TUN alone', () => {
    using rig = new Rig(0);
    const other = rig.addDevice();
    rig.afterPoll = () => other.sendFromInside();
    rig.request(0);
    expect(rig.written).toBe(1);
    expect(rig.lost).toBe(0);
    rig.duplex.turn(PATIENCE_MS);
    expect(rig.lost).toBe(1);
    other.close();
  });
});

describe('it stays awake', () => {
  test('for what comes after one packet', () => {
    using rig = new Rig(0);
    for (let n = 1; n <= 3; n++) {
      rig.sandbox.sendFromInside(PACKET);
      expect(rig.staysAwake(PATIENCE_MS)).toBe(false);
      expect(rig.sent).toBe(n);
      // It comes back to the socket that it left by.
      expect(rig.staysAwake(PATIENCE_MS)).toBe(true);
      expect(rig.slept).toBe(false);
      expect(rig.staysAwake(SHORT_MS)).toBe(false);
    }
  });

  test('once for each', () => {
    using rig = new Rig(0);
    rig.sandbox.moveEndpoint();
    rig.sandbox.sendFromInside(PACKET);
    const awake = Array.from({ length: 6 }, () => rig.staysAwake(SHORT_MS));
    expect(rig.sent).toBe(1);
    expect(awake).toEqual([false, true, false, false, false, false]);
  });

  test('not for a turn that must not wait', () => {
    using rig = new Rig(0);
    rig.sandbox.moveEndpoint();
    rig.sandbox.sendFromInside(PACKET);
    rig.duplex.turn(PATIENCE_MS);
    expect(rig.staysAwake(AT_ONCE)).toBe(true);
    expect(rig.timeouts).toEqual([AT_ONCE]);
  });

  test('not after an answer', () => {
    using rig = new Rig(0);
    rig.request(1);
    expect(rig.sent).toBe(1);
    expect(rig.staysAwake(SHORT_MS)).toBe(false);
  });

  test('not after several packets, nor after one that waits for a handshake', () => {
    using rig = new Rig(0);
    for (let n = 0; n < 2; n++) rig.sandbox.sendFromInside(PACKET);
    rig.duplex.turn(PATIENCE_MS);
    expect(rig.sent).toBe(2);
    expect(rig.staysAwake(SHORT_MS)).toBe(false);
    rig.sandbox.sendFromInside(toWaiting());
    rig.duplex.turn(PATIENCE_MS);
    expect(rig.staysAwake(SHORT_MS)).toBe(false);
  });

  test('not soon after it has sent or received something else', () => {
    for (const work of [
      (rig: Rig) => [PACKET, PACKET].map((packet) => rig.sandbox.sendFromInside(packet)),
      (rig: Rig) => rig.keepalive(),
    ]) {
      using rig = new Rig(LONG_MS);
      rig.sandbox.moveEndpoint();
      work(rig);
      rig.duplex.turn(PATIENCE_MS);
      rig.sandbox.sendFromInside(PACKET);
      rig.duplex.turn(PATIENCE_MS);
      expect(rig.staysAwake(SHORT_MS)).toBe(false);
    }
    using rig = new Rig(LONG_MS);
    rig.sandbox.sendFromInside(PACKET);
    rig.duplex.turn(PATIENCE_MS);
    expect(rig.staysAwake(PATIENCE_MS)).toBe(true);
  });
});

/** A thread of both directions, one turn at a time, and the other end of its tunnel. */
class Rig implements Disposable {
  readonly sandbox = new Sandbox(workerOptions('duplex'));
  readonly duplex: Duplex;
  /** Of the polls in the last `staysAwake`. */
  timeouts: (number | undefined)[] = [];
  /** What a kernel does after the poll, before a write to the TUN returns. */
  afterPoll = (): void => {};
  readonly #sealer = new Sealer(this.sandbox);
  readonly #arena = new Arena(DUPLEX_ARENA + 4096, true);
  readonly #egress: Egress;

  constructor(quietMs: number) {
    const rig = this;
    const { options } = this.sandbox;
    class WatchedPoller extends Poller {
      override wait(timeoutMs?: number): boolean {
        rig.timeouts.push(timeoutMs);
        const hasCome = super.wait(timeoutMs);
        rig.afterPoll();
        return hasCome;
      }
    }
    const poller = new WatchedPoller(this.#arena, options.wakeFd, 4, socketsOfIngress(options.udp));
    [this.duplex, this.#egress] = duplexOf(this.#arena, { ...options, quietMs }, poller, options.udp);
    this.sandbox.vary(0);
    this.duplex.configure();
  }

  /** One packet comes, and the TUN has so many as an answer to it. */
  request(answers: number): void {
    this.#sealer.sealPacket(SESSIONS[1], PACKET);
    expect(this.#sealer.send(0)).toBe(true);
    const { afterPoll } = this;
    this.afterPoll = () => {
      afterPoll();
      for (let n = 0; n < answers; n++) this.sandbox.sendFromInside(PACKET);
      this.afterPoll = () => {};
    };
    this.duplex.turn(PATIENCE_MS);
  }

  keepalive(): void {
    this.#sealer.sealKeepalive(SESSIONS[1]);
    expect(this.#sealer.send(0)).toBe(true);
  }

  /** Whether it polls at once before it sleeps, in a turn that lasts so long at most. */
  staysAwake(timeoutMs: number): boolean {
    this.timeouts = [];
    this.duplex.turn(timeoutMs);
    return this.timeouts[0] === AT_ONCE;
  }

  get slept(): boolean {
    return this.timeouts.some((timeoutMs) => timeoutMs !== AT_ONCE);
  }

  get sent(): number {
    return sentBy(this.sandbox.options);
  }

  get written(): number {
    return readCounts(INGRESS_COUNTERS, this.sandbox.options.counters.ingress).writes;
  }

  /** What it read from a TUN and has nobody for. */
  get lost(): number {
    return readCounts(EGRESS_COUNTERS, this.sandbox.options.counters.egress)['dropped:no-peer'];
  }

  /** Another network's, that has no peers. */
  addDevice(): { sendFromInside(): void; close(): void } {
    const scratch = this.#arena.allocate(LENGTH);
    socketpair(AF_UNIX, SOCK_DGRAM | O_NONBLOCK, 0, this.#arena.address + scratch);
    const { view, bytes, address } = this.#arena;
    const [tun, inside] = [view.getInt32(scratch, true), view.getInt32(scratch + 4, true)];
    bytes.set(PACKET, scratch);
    const change = { kind: 'add-device', device: 1, fds: [tun], mtu: 1420, offload: 'none' } as const;
    this.#egress.apply({ sequence: 9, change });
    return {
      sendFromInside: () => {
        expect(write(inside, address + scratch, PACKET.length)).toBe(PACKET.length);
      },
      close: () => {
        for (const fd of [tun, inside]) closeSync(fd);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#sealer[Symbol.dispose]();
    this.sandbox[Symbol.dispose]();
    this.#arena.unmap();
  }
}

const sentBy = ({ counters }: WorkerOptions): number => readCounts(EGRESS_COUNTERS, counters.egress).packets;

const duplexOf = (
  arena: Arena,
  options: WorkerOptions,
  poller: Poller,
  udp: SocketPair,
): [Duplex, Egress] => {
  const shared = { poller, events: new EventSink(options.events, options.port) };
  const egress = egressOf(arena, options, shared);
  const duplex = new Duplex({
    pair: 0,
    egress,
    ingress: ingressOf(arena, options, shared),
    state: new SharedState(options.memory),
    udp,
    busyPoll: new BusyPoll(poller, options.quietMs),
    ...shared,
    port: options.port,
  });
  return [duplex, egress];
};
