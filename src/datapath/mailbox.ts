// The main thread's side of everything that passes to and from the workers in rings: commands to egress, events from
// all, handshake datagrams from ingress. Translates entries to and from what the rest of the program speaks.

import type { DataPlaneEvent, Endpoint } from '../../native-free/device/data-plane.ts';
import type { PathEvent } from '../../native-free/device/path-mtus.ts';
import { HANDSHAKE_QUEUE_LENGTH, UNDER_LOAD_QUEUE_LENGTH } from '../../native-free/noise/constants.ts';
import { COOKIE_REPLY_LENGTH, INITIATION_LENGTH, RESPONSE_LENGTH } from '../../native-free/wire/message.ts';
import { type Command, CommandQueue } from './command-queue.ts';
import type { PeerSlot } from './peer-slots.ts';
import { createRing, Ring, type RingMemory } from './ring.ts';
import { decodePath, HeardPath } from './sockaddr.ts';
import {
  COMMAND_DROP_STAGED,
  COMMAND_SEND_STAGED,
  DATAGRAM_BYTES,
  DATAGRAM_DEVICE,
  DATAGRAM_LENGTH,
  DATAGRAM_PATH,
  DATAGRAM_PRESSED,
  EVENT_DEVICE_LOST,
  EVENT_ENDPOINT_MOVED,
  EVENT_HANDSHAKE_NEEDED,
  EVENT_KEYPAIR_CONFIRMED,
  EVENT_LENGTH,
  EVENT_LOCAL_INDEX,
  EVENT_PATH,
  EVENT_PEER,
  EVENT_PROBE,
  EVENT_PROBE_ANSWERED,
} from './worker-protocol.ts';

const EVENTS = 4096;
/** Handshake datagrams passed on before other work has a turn: anyone can send them, faster than they are looked at. */
const DATAGRAMS_A_TURN = 32;
/** A turn of handshakes that all need their cryptography ends sooner, milliseconds. */
const TURN_MS = 5;

export interface MailHandlers {
  readonly onEvent: (deviceId: string, event: DataPlaneEvent) => void;
  /**
   * A handshake message (types 1 to 3, of the right length); `waiting` more have arrived after it, of at most
   * HANDSHAKE_QUEUE_LENGTH, or come so fast that as many would wait. It is most likely for `deviceId`. Borrows `datagram`.
   */
  readonly onDatagram: (
    datagram: Uint8Array,
    source: Endpoint,
    waiting: number,
    deviceId: string | undefined,
  ) => void;
  /** What bears on how large a datagram the way to a peer carries. Without it no probe is answered. */
  readonly onPathEvent?: (deviceId: string, event: PathEvent) => void;
  /** The device's TUN has gone, most likely deleted. */
  readonly onDeviceLost: (deviceId: string) => void;
}

/** Whose slots and numbers these are; undefined for those just given back. */
export interface Directory {
  readonly peer: (slot: number) => PeerSlot | undefined;
  readonly device: (number: number) => string | undefined;
}

export class Mailbox {
  /** Where the datagram at hand came from. */
  readonly heard = new HeardPath();
  // For the workers, by pair.
  readonly commandMemories: readonly RingMemory[];
  readonly egressMemories: readonly RingMemory[];
  readonly ingressMemories: readonly RingMemory[];
  readonly datagramMemories: readonly RingMemory[];

  readonly #commands: readonly CommandQueue[];
  readonly #events: readonly Ring[];
  readonly #datagrams: readonly Ring[];
  readonly #handlers: MailHandlers;
  readonly #directory: Directory;
  /** What datagrams are copied to out of shared memory, by length: none is made for each, since anyone can send them. */
  readonly #copies = [INITIATION_LENGTH, RESPONSE_LENGTH, COOKIE_REPLY_LENGTH].map(
    (length) => new Uint8Array(length),
  );
  #isPassing = false;
  #rest: NodeJS.Immediate | undefined;

  constructor(handlers: MailHandlers, directory: Directory, pairs: number) {
    this.#handlers = handlers;
    this.#directory = directory;
    const each = <T>(make: () => T): T[] => Array.from({ length: pairs }, make);
    this.#commands = each(() => new CommandQueue());
    this.commandMemories = this.#commands.map(({ memory }) => memory);
    this.egressMemories = each(() => createRing(EVENT_LENGTH, EVENTS));
    this.ingressMemories = each(() => createRing(EVENT_LENGTH, EVENTS));
    this.datagramMemories = each(() => createRing(DATAGRAM_LENGTH, HANDSHAKE_QUEUE_LENGTH));
    this.#events = [...this.ingressMemories, ...this.egressMemories].map((memory) => new Ring(memory));
    this.#datagrams = this.datagramMemories.map((memory) => new Ring(memory));
  }

  /** Queues a command to egress: to all workers what all may have staged. False: it waits for room, so call `retry` in a while. */
  command(command: Command): boolean {
    const isForAll = command.kind === COMMAND_SEND_STAGED || command.kind === COMMAND_DROP_STAGED;
    const queues = isForAll ? this.#commands : this.#commands.slice(0, 1);
    return queues.map((queue) => queue.push(command)).every(Boolean);
  }

  /** True when no command waits any more. */
  retry(): boolean {
    return this.#commands.map((queue) => queue.retry()).every(Boolean);
  }

  /**
   * Passes on what has arrived, of datagrams some now and the rest in turns. A handler may call this again, and gets no datagram
   * while it has one.
   */
  drain(): void {
    for (const ring of this.#events) ring.clearWakeUp();
    for (const ring of this.#events) this.#drainEvents(ring);
    if (!this.#isPassing) this.#passDatagrams();
    if ([...this.#events, ...this.#datagrams].every((ring) => ring.peek() < 0)) return;
    this.#rest ??= setImmediate(() => {
      this.#rest = undefined;
      this.drain();
    });
  }

  /** Passes on nothing any more. */
  close(): void {
    clearImmediate(this.#rest);
  }

  #passDatagrams(): void {
    this.#isPassing = true;
    try {
      for (const ring of this.#datagrams) this.#drainDatagrams(ring);
    } finally {
      this.#isPassing = false;
    }
  }

  #drainEvents(ring: Ring): void {
    for (let n = 0; n < EVENTS; n++) {
      const entry = ring.peek();
      if (entry < 0) return;
      const kind = ring.view.getUint32(entry, true);
      const subject = ring.view.getInt32(entry + EVENT_PEER, true);
      const localIndex = ring.view.getUint32(entry + EVENT_LOCAL_INDEX, true);
      const endpoint = kind === EVENT_ENDPOINT_MOVED ? decodePath(ring.bytes, entry + EVENT_PATH) : undefined;
      ring.release();
      this.#tell(kind, subject, localIndex, endpoint);
    }
  }

  #tell(kind: number, subject: number, localIndex: number, endpoint: Endpoint | undefined): void {
    if (kind === EVENT_DEVICE_LOST) {
      const deviceId = this.#directory.device(subject);
      if (deviceId !== undefined) this.#handlers.onDeviceLost(deviceId);
      return;
    }
    const slot = this.#directory.peer(subject);
    if (slot === undefined) return;
    const { deviceId, peerId: peer } = slot;
    if (kind === EVENT_HANDSHAKE_NEEDED) this.#handlers.onEvent(deviceId, { kind: 'handshake-needed', peer });
    else if (kind === EVENT_PROBE)
      this.#handlers.onPathEvent?.(deviceId, { kind: 'probe', peer, sequence: localIndex });
    else if (kind === EVENT_PROBE_ANSWERED)
      this.#handlers.onPathEvent?.(deviceId, { kind: 'probe-answered', peer, sequence: localIndex });
    else if (kind === EVENT_KEYPAIR_CONFIRMED)
      this.#handlers.onEvent(deviceId, { kind: 'keypair-confirmed', peer, localIndex });
    else if (endpoint !== undefined)
      this.#handlers.onEvent(deviceId, { kind: 'endpoint-moved', peer, endpoint });
  }

  #drainDatagrams(ring: Ring): void {
    const end = performance.now() + TURN_MS;
    for (let n = 0; n < DATAGRAMS_A_TURN && performance.now() < end; n++) {
      const entry = ring.peek();
      if (entry < 0) return;
      const source = this.heard.decode(ring.bytes, entry + DATAGRAM_PATH);
      const datagram = this.#copy(ring, entry);
      const device = ring.view.getUint16(entry + DATAGRAM_DEVICE, true);
      const pressed = ring.view.getUint16(entry + DATAGRAM_PRESSED, true) === 0 ? 0 : UNDER_LOAD_QUEUE_LENGTH;
      ring.release();
      if (source === undefined || datagram === undefined) continue;
      const deviceId = device === 0 ? undefined : this.#directory.device(device - 1);
      this.#handlers.onDatagram(datagram, source, Math.max(ring.length, pressed), deviceId);
    }
  }

  /** Good until the next. Undefined: it has none of the lengths that ingress passes on. */
  #copy(ring: Ring, entry: number): Uint8Array | undefined {
    const length = ring.view.getUint32(entry, true);
    const copy = this.#copies.find((one) => one.length === length);
    if (copy === undefined) return undefined;
    for (let i = 0; i < length; i++) copy[i] = ring.bytes[entry + DATAGRAM_BYTES + i] ?? 0;
    return copy;
  }
}
