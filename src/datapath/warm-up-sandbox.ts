// The world a worker is warmed up in: a state with two peers and two sessions, counters nobody reads, a socket that sends to
// itself, a pair of local sockets for a TUN. Nothing of it is the worker's own, and nothing of it stays.

import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { buildAllowedIpsTable } from '../../native-free/device/allowed-ips-table.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { monotonicNow } from '../ffi/clock.ts';
import { close, eventfd, O_CLOEXEC, O_NONBLOCK, read, socketpair, write } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { createCounterMemory, EGRESS_COUNTERS, INGRESS_COUNTERS } from './counters.ts';
import { createHandOver } from './hand-over.ts';
import { KeypairSlots } from './keypair-slots.ts';
import { createRing, Ring } from './ring.ts';
import { createSharedMemory, KEY_LENGTH, SharedState } from './shared-state.ts';
import { encodePath } from './sockaddr.ts';
import type { UdpSockets } from './udp.ts';
import { openSink } from './udp-offloads.ts';
import { MTU } from './warm-up-packets.ts';
import { MAX_PAIRS } from './worker-pairs.ts';
import { COMMAND_PEER, COMMAND_SIZE, type Configuration, type WorkerOptions } from './worker-protocol.ts';

const DEVICE = 0;
/** There are sessions with this one, */
export const PEER = 0;
/** and with this one there are none yet. */
export const WAITING = 1;
/** Numbers of the sessions. */
export const SESSIONS = [1, 2] as const;
export type Session = (typeof SESSIONS)[number];
export const MAC1_KEY = new Uint8Array(32).fill(3);

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const LONGEST_PACKET = 65_536;

export class Sandbox implements Disposable {
  /** Like the worker's own. */
  readonly options: WorkerOptions;
  readonly #state: SharedState;
  readonly #slots: KeypairSlots;
  readonly #keys = new Map<Session, Uint8Array>();
  readonly #commands: Ring;
  /** From the worker. */
  readonly #told: readonly Ring[];
  readonly #main: MessagePort;
  readonly #scratch = new Arena(LONGEST_PACKET);
  readonly #inside: number;
  /** A port other than the socket's own. */
  readonly #elsewhere: number;
  readonly #descriptors: readonly number[];

  constructor(own: WorkerOptions) {
    const sink = openSink(own.udp.offloads.coalescing);
    // Nothing ever comes by this one, and nobody reads what comes by that one.
    const silent = openSink(false);
    const deaf = openSink(false);
    const [tun, inside] = openPair();
    const wakeFd = eventfd(0, O_NONBLOCK);
    const { port1, port2 } = new MessageChannel();
    const memory = createSharedMemory(2, 4, own.memory.pairs);
    const nothing = { v4: silent.fd, v6: silent.fd };
    const udp: UdpSockets = { ...own.udp, port: sink.port, v4: sink.fd, v6: silent.fd, sparse: nothing };
    this.options = {
      ...own,
      port: port2,
      memory,
      udp,
      wakeFd,
      quietMs: 0,
      counters: {
        egress: createCounterMemory(EGRESS_COUNTERS),
        ingress: createCounterMemory(INGRESS_COUNTERS),
      },
      events: createRing(own.events.entryLength, 4),
      commands: createRing(own.commands.entryLength, 4),
      datagrams: createRing(own.datagrams.entryLength, 4),
      handOver: createHandOver(own.handOver.wakeFds.map(() => wakeFd)),
    };
    this.#main = port1;
    this.#inside = inside;
    this.#elsewhere = deaf.port;
    this.#descriptors = [sink.fd, silent.fd, deaf.fd, tun, inside, wakeFd];
    const { commands, events, datagrams } = this.options;
    this.#commands = new Ring(commands);
    this.#told = [new Ring(events), new Ring(datagrams)];
    this.#state = new SharedState(memory);
    for (const peer of [PEER, WAITING]) {
      this.#state.initPeer(peer, DEVICE);
      this.#setEndpoint(peer, sink.port, true);
    }
    this.#slots = new KeypairSlots(this.#state);
    for (const session of SESSIONS) this.#renew(session, 0);
    for (const change of changes(new Array(own.pair + 1).fill(tun))) port1.postMessage(change);
  }

  /** Its receiver index, which is one of this worker's. */
  indexOf(session: Session): number {
    return session * MAX_PAIRS + this.options.pair;
  }

  keyOf(session: Session): Uint8Array {
    return this.#keys.get(session) ?? new Uint8Array(KEY_LENGTH);
  }

  /** Another keypair in place of the last on that index, as after a handshake. */
  #renew(session: Session, round: number): void {
    const key = new Uint8Array(KEY_LENGTH).fill(session).fill(round, 1, 2);
    this.#keys.set(session, key);
    this.#slots.install(PEER, {
      localIndex: this.indexOf(session),
      remoteIndex: this.indexOf(session),
      sendKey: key,
      receiveKey: key,
      isInitiator: true,
      createdAt: monotonicNow() + session,
    });
  }

  // --- as main does

  /** Another session, and another way to the peer, than in the round before; now and then a new session. */
  vary(round: number): void {
    const session = SESSIONS[round & 1] ?? SESSIONS[0];
    if ((round & 3) === 3) this.#renew(session, round);
    this.#state.setKeypairInUse(PEER, this.#slotOf(session));
    this.#setEndpoint(PEER, this.options.udp.port, (round & 2) === 0);
  }

  /** As ingress does: the peer was heard, and has shown that it has the second session. */
  hear(): void {
    const path = encodePath({ address: '127.0.0.1', port: this.options.udp.port, local: '127.0.0.1' });
    this.#state.paths.setHeard(PEER, new DataView(path.buffer, path.byteOffset, path.length), 0);
    this.#state.confirmKeypair(PEER, this.#slotOf(SESSIONS[1]));
  }

  /** The peer is known to be elsewhere: what comes from it comes from a place that is new, and what goes there is lost. */
  moveEndpoint(): void {
    this.#setEndpoint(PEER, this.#elsewhere, false);
  }

  /** To egress; `wake` hands it over. */
  command(kind: number, peer: number, size = 0): void {
    const entry = this.#commands.reserve();
    if (entry < 0) return;
    this.#commands.view.setUint32(entry, kind, true);
    this.#commands.view.setInt32(entry + COMMAND_PEER, peer, true);
    this.#commands.view.setUint32(entry + COMMAND_SIZE, size, true);
    this.#commands.commit();
  }

  wake(): void {
    const { bytes, address } = this.#scratch;
    bytes.fill(0, 0, 8);
    bytes[0] = 1;
    write(this.options.wakeFd, address, 8);
  }

  /** Takes what the worker has told main. */
  takeEvents(): void {
    for (const ring of this.#told) {
      while (ring.peek() >= 0) ring.release();
      ring.clearWakeUp();
    }
  }

  // --- the far end of what stands for the TUN

  /** Of which a read brings one packet, too. False: there is no room. */
  sendFromInside(packet: Uint8Array): boolean {
    this.#scratch.bytes.set(packet);
    return write(this.#inside, this.#scratch.address, packet.length) === packet.length;
  }

  /** Reads away what came out of the tunnel. */
  drain(): void {
    while (read(this.#inside, this.#scratch.address, LONGEST_PACKET) > 0);
  }

  #slotOf(session: Session): number {
    return this.#slots.slotOf(this.indexOf(session), PEER) ?? 0;
  }

  #setEndpoint(peer: number, port: number, hasLocal: boolean): void {
    const path = { address: '127.0.0.1', port };
    this.#state.paths.setEndpoint(peer, encodePath(hasLocal ? { ...path, local: '127.0.0.1' } : path));
  }

  [Symbol.dispose](): void {
    this.#main.close();
    this.#scratch.unmap();
    for (const fd of this.#descriptors) close(fd);
  }
}

const changes = (fds: readonly number[]): Configuration[] => {
  const allowedIps = buildAllowedIpsTable([
    { prefix: parsePrefix('10.0.0.0/8'), value: PEER },
    { prefix: parsePrefix('fd00::/8'), value: PEER },
    { prefix: parsePrefix('11.0.0.0/8'), value: WAITING },
  ]);
  return [
    { sequence: 1, change: { kind: 'add-device', device: DEVICE, fds, mtu: MTU, offload: 'tcp+udp' } },
    { sequence: 2, change: { kind: 'set-allowed-ips', device: DEVICE, allowedIps } },
    { sequence: 3, change: { kind: 'set-mac1-key', device: DEVICE, mac1Key: MAC1_KEY } },
  ];
};

/** Two ends of a line that keeps packets apart, as a TUN does. */
const openPair = (): [number, number] => {
  const scratch = new Arena(8);
  socketpair(AF_UNIX, SOCK_DGRAM | O_NONBLOCK | O_CLOEXEC, 0, scratch.address);
  const pair: [number, number] = [scratch.view.getInt32(0, true), scratch.view.getInt32(4, true)];
  scratch.unmap();
  return pair;
};
