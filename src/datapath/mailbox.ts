// The main thread's side of everything that passes to and from the workers in rings: commands to egress, events from
// both, handshake datagrams from ingress. Translates entries to and from what the rest of the program speaks.

import type { DataPlaneEvent, Endpoint } from '../../native-free/device/data-plane.ts';
import type { PathEvent } from '../../native-free/device/path-mtus.ts';
import { HANDSHAKE_QUEUE_LENGTH, UNDER_LOAD_QUEUE_LENGTH } from '../../native-free/noise/constants.ts';
import type { PeerSlot } from './peer-slots.ts';
import { createRing, Ring, type RingMemory } from './ring.ts';
import { decodePath, PATH_LENGTH } from './sockaddr.ts';
import {
  COMMAND_LENGTH,
  COMMAND_PEER,
  COMMAND_SEQUENCE,
  COMMAND_SIZE,
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

const COMMANDS = 8192;
const EVENTS = 4096;
/** Handshake datagrams passed on before other work has a turn: anyone can send them, faster than they are looked at. */
const DATAGRAMS_A_TURN = 32;
/** A turn of handshakes that all need their cryptography ends sooner, milliseconds. */
const TURN_MS = 5;

export interface MailHandlers {
  readonly onEvent: (deviceId: string, event: DataPlaneEvent) => void;
  /**
   * A handshake message (types 1 to 3, of the right length); `waiting` more have arrived after it, of at most
   * HANDSHAKE_QUEUE_LENGTH, or come so fast that as many would wait. It is most likely for `deviceId`. Keeps `datagram`.
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
  // For the workers.
  readonly commandMemory: RingMemory = createRing(COMMAND_LENGTH, COMMANDS);
  readonly egressMemory: RingMemory = createRing(EVENT_LENGTH, EVENTS);
  readonly ingressMemory: RingMemory = createRing(EVENT_LENGTH, EVENTS);
  readonly datagramMemory: RingMemory = createRing(DATAGRAM_LENGTH, HANDSHAKE_QUEUE_LENGTH);

  readonly #commands = new Ring(this.commandMemory);
  readonly #egress = new Ring(this.egressMemory);
  readonly #ingress = new Ring(this.ingressMemory);
  readonly #datagrams = new Ring(this.datagramMemory);
  readonly #handlers: MailHandlers;
  readonly #directory: Directory;
  /** Commands that found the ring full, in order. */
  #waiting: (readonly [kind: number, peer: number, sequence: number, size: number])[] = [];
  #rest: NodeJS.Immediate | undefined;

  constructor(handlers: MailHandlers, directory: Directory) {
    this.#handlers = handlers;
    this.#directory = directory;
  }

  /** Queues a command to egress. False: it waits for room, so call `retry` in a while. */
  command(kind: number, peer: number, sequence = 0, size = 0): boolean {
    this.#waiting.push([kind, peer, sequence, size]);
    return this.retry();
  }

  /** True when no command waits any more. */
  retry(): boolean {
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined) return true;
      const entry = this.#commands.reserve();
      if (entry < 0) return false;
      this.#commands.view.setUint32(entry, next[0], true);
      this.#commands.view.setInt32(entry + COMMAND_PEER, next[1], true);
      this.#commands.view.setUint32(entry + COMMAND_SEQUENCE, next[2], true);
      this.#commands.view.setUint32(entry + COMMAND_SIZE, next[3], true);
      this.#commands.commit();
      this.#waiting.shift();
    }
  }

  /** Passes on what has arrived, of datagrams some now and the rest in turns. A handler may call this again. */
  drain(): void {
    this.#ingress.clearWakeUp();
    this.#egress.clearWakeUp();
    this.#drainEvents(this.#ingress);
    this.#drainEvents(this.#egress);
    this.#drainDatagrams(this.#datagrams);
    if ([this.#ingress, this.#egress, this.#datagrams].every((ring) => ring.peek() < 0)) return;
    this.#rest ??= setImmediate(() => {
      this.#rest = undefined;
      this.drain();
    });
  }

  /** Passes on nothing any more. */
  close(): void {
    clearImmediate(this.#rest);
  }

  #drainEvents(ring: Ring): void {
    for (let n = 0; n < EVENTS; n++) {
      const entry = ring.peek();
      if (entry < 0) return;
      const kind = ring.view.getUint32(entry, true);
      const subject = ring.view.getInt32(entry + EVENT_PEER, true);
      const localIndex = ring.view.getUint32(entry + EVENT_LOCAL_INDEX, true);
      const endpoint = kind === EVENT_ENDPOINT_MOVED ? readEndpoint(ring, entry + EVENT_PATH) : undefined;
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
      const source = decodePath(
        ring.bytes.subarray(entry + DATAGRAM_PATH, entry + DATAGRAM_PATH + PATH_LENGTH),
      );
      // A copy that does not lie in shared memory, since the receiver keeps it.
      const datagram = new Uint8Array(ring.view.getUint32(entry, true));
      datagram.set(ring.bytes.subarray(entry + DATAGRAM_BYTES, entry + DATAGRAM_BYTES + datagram.length));
      const device = ring.view.getUint16(entry + DATAGRAM_DEVICE, true);
      const pressed = ring.view.getUint16(entry + DATAGRAM_PRESSED, true) === 0 ? 0 : UNDER_LOAD_QUEUE_LENGTH;
      ring.release();
      if (source === undefined) continue;
      const deviceId = device === 0 ? undefined : this.#directory.device(device - 1);
      this.#handlers.onDatagram(datagram, source, Math.max(ring.length, pressed), deviceId);
    }
  }
}

const readEndpoint = (ring: Ring, at: number): Endpoint | undefined =>
  decodePath(ring.bytes.subarray(at, at + PATH_LENGTH));
