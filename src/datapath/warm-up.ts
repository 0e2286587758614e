// Runs a worker's packet code on synthetic packets before the first real one comes, so that V8 has compiled it by then. V8
// compiles for what it has seen: the first time that anything else happens, if it is only that nothing came for a while, it
// throws the function away, and a worker with little to do runs the slow one for minutes. So in every round there is also
// some of what is rare. The loop that waits, reads and writes is run, too.

import { monotonicNow } from '../ffi/clock.ts';
import { Arena } from '../ffi/memory.ts';
import { pile, rounds, toNobody, toWaiting } from './warm-up-packets.ts';
import { PEER, Sandbox, SESSIONS, WAITING } from './warm-up-sandbox.ts';
import { handshakes, MESSAGE_LENGTH, Sealer } from './warm-up-sealer.ts';
import {
  COMMAND_ANSWER_PROBE,
  COMMAND_DROP_STAGED,
  COMMAND_SEND_KEEPALIVE,
  COMMAND_SEND_PROBE,
  type WorkerOptions,
} from './worker-protocol.ts';

/** Whose loopback takes longer than this to bring a datagram is warmed up without it. */
const PATIENCE_MS = 50;
/** Of a round's packets. */
const SEVERAL = 6;
const AT_ONCE = 0;
/** Rounds, where what egress has sent has come back already. */
const FEW = 30;
const SHORT_MS = 1;
const ECT_0 = 2;
const PROBE_LENGTH = 1400;

/** What a worker runs. */
interface Loop {
  configure(): void;
  turn(timeoutMs?: number): void;
}

/** One that receives. */
interface Receiver extends Loop {
  inject(datagrams: Uint8Array, size: number): void;
}

/**
 * `create` builds what the worker runs, here from options of its own. Returns what has to be kept, though it is of no use: where no
 * object of a shape is left, V8 forgets the shape, and with it all code for it.
 */
export const warmUpEgress = (
  options: WorkerOptions,
  create: (arena: Arena, options: WorkerOptions) => Loop,
  arenaLength: number,
): readonly object[] => {
  using sandbox = new Sandbox(options);
  const arena = new Arena(arenaLength, true);
  const egress = create(arena, sandbox.options);
  egress.configure();
  const send = (packet: Uint8Array): void => {
    if (sandbox.sendFromInside(packet)) egress.turn();
  };
  let number = 0;
  for (const round of rounds()) {
    sandbox.vary(number);
    if (number % 8 === 4) sandbox.hear();
    for (const packet of round) send(packet);
    // Several in one turn.
    for (const packet of round.slice(-SEVERAL)) sandbox.sendFromInside(packet);
    egress.turn();
    if (number % 32 === 1) {
      for (const packet of pile(number)) sandbox.sendFromInside(packet);
      egress.turn();
      sandbox.drain();
    }
    for (const packet of toNobody()) send(packet);
    send(toWaiting());
    sandbox.command(COMMAND_DROP_STAGED, WAITING);
    sandbox.command(COMMAND_SEND_KEEPALIVE, PEER);
    sandbox.command(number % 2 === 0 ? COMMAND_SEND_PROBE : COMMAND_ANSWER_PROBE, PEER, PROBE_LENGTH);
    sandbox.wake();
    egress.turn();
    egress.turn(AT_ONCE);
    if (number % 8 === 6) {
      // What nothing answers.
      sandbox.moveEndpoint();
      for (const packet of round.slice(-1)) send(packet);
      egress.turn(SHORT_MS);
    }
    sandbox.drain();
    sandbox.takeEvents();
    number += 1;
  }
  arena.unmap();
  return [egress, sandbox];
};

/** Like `warmUpEgress`. */
export const warmUpIngress = (
  options: WorkerOptions,
  create: (arena: Arena, options: WorkerOptions) => Receiver,
  arenaLength: number,
): readonly object[] => {
  using sandbox = new Sandbox(options);
  using sealer = new Sealer(sandbox);
  const arena = new Arena(arenaLength, true);
  const ingress = create(arena, sandbox.options);
  ingress.configure();
  let hasLoopback = true;
  const send = (trafficClass: number): void => {
    const start = monotonicNow();
    if (hasLoopback && sealer.send(trafficClass)) {
      ingress.turn();
      hasLoopback = monotonicNow() - start < PATIENCE_MS;
    } else ingress.inject(sealer.sealed, MESSAGE_LENGTH);
    sandbox.drain();
  };
  const foreign = handshakes();
  let number = 0;
  for (const round of rounds(options.kind === 'duplex' ? FEW : undefined)) {
    sandbox.vary(number);
    for (const [i, packet] of round.entries()) {
      const session = SESSIONS[i === 0 ? 1 : 0];
      if (i === 1) sandbox.moveEndpoint();
      sealer.sealPacket(session, packet);
      send(i === 2 ? ECT_0 : 0);
    }
    const session = SESSIONS[number & 1] ?? SESSIONS[0];
    sealer.sealKeepalive(session);
    send(0);
    sealer.sealProbe(session);
    send(0);
    for (const message of [...foreign, ...junk(sealer.sealed)]) ingress.inject(message, message.length);
    sandbox.wake();
    ingress.turn();
    ingress.turn(AT_ONCE);
    sandbox.takeEvents();
    number += 1;
  }
  arena.unmap();
  return [ingress, sandbox, sealer];
};

/** What is dropped: a message again, one that was changed, one of no session, and none at all. */
const junk = (message: Uint8Array): Uint8Array[] => {
  const forged = message.slice();
  forged[forged.length - 1] = ~(forged[forged.length - 1] ?? 0);
  const unknown = message.slice();
  unknown[5] = 0xff;
  return [message.slice(), forged, unknown, new Uint8Array(40).fill(9)];
};
