// What passes between the main thread and the workers besides the shared state: rare configuration as messages on a
// port; commands, events and handshake datagrams as entries of rings. An eventfd wakes a worker; a message wakes main.

import type { MessagePort } from 'node:worker_threads';
import type { AeadTier } from './aead.ts';
import type { HandOverMemory } from './hand-over.ts';
import type { RingMemory } from './ring.ts';
import type { SharedMemory } from './shared-state.ts';
import type { TunOffload } from './tun.ts';
import type { UdpSockets } from './udp.ts';

/**
 * How long a worker runs before others may, where all cores are busy (the kernel's own: about 3 ms). Most of what a packet waits
 * for under load is that its worker runs again.
 */
export const SLICE_NANOSECONDS = 200_000;

/** What a thread carries: one direction, or both. */
export type WorkerKind = 'egress' | 'ingress' | 'duplex';

/** What a worker is started with. */
export interface WorkerOptions {
  readonly kind: WorkerKind;
  /** Which of the pairs of workers it belongs to, from 0. */
  readonly pair: number;
  readonly port: MessagePort;
  readonly memory: SharedMemory;
  /** The pair's, each direction's for the one who has it; so are the rings of commands and datagrams. */
  readonly counters: { readonly egress: SharedArrayBuffer; readonly ingress: SharedArrayBuffer };
  readonly wakeFd: number;
  readonly udp: UdpSockets;
  /** Whether messages of sparse flows are marked, so that they may overtake. */
  readonly marksSparse: boolean;
  /** After so long without work, a thread of both directions polls busily for the answer to one packet (busy-poll), ms; Infinity: never. */
  readonly quietMs: number;
  readonly aeadTier: AeadTier;
  readonly events: RingMemory;
  /** From main, for egress. */
  readonly commands: RingMemory;
  /** Handshakes to main, from ingress, of which only that of the first pair gets any. */
  readonly datagrams: RingMemory;
  /** Among the ingress workers. */
  readonly handOver: HandOverMemory;
}

export type Change =
  | {
      readonly kind: 'add-device';
      readonly device: number;
      /** Of the TUN's queues, one for each pair of workers. */
      readonly fds: readonly number[];
      readonly mtu: number;
      readonly offload: TunOffload;
    }
  | { readonly kind: 'remove-device'; readonly device: number }
  | { readonly kind: 'set-mtu'; readonly device: number; readonly mtu: number }
  /** What initiations and responses to its public key are recognized by (noise/cookie, mac1KeyOf). */
  | { readonly kind: 'set-mac1-key'; readonly device: number; readonly mac1Key: Uint8Array }
  /** A table as by buildAllowedIpsTable, of peer slots. */
  | { readonly kind: 'set-allowed-ips'; readonly device: number; readonly allowedIps: Int32Array };

/** To a worker. Sequence numbers count up from 1. */
export interface Configuration {
  readonly sequence: number;
  readonly change: Change;
}

/** How many networks a node can be on at once. */
export const MAX_DEVICES = 256;

export type WorkerMessage =
  /** Once: it runs. */
  | { readonly kind: 'ready'; readonly aeadTier: AeadTier }
  /** There is something in its rings, or it has taken over configuration. */
  | { readonly kind: 'wake' };

// Command, 16 B: kind u32, peer i32; of a probe and its answer: sequence number u32, length of the plaintext u32.
export const COMMAND_LENGTH = 16;
export const COMMAND_PEER = 4;
export const COMMAND_SEQUENCE = 8;
export const COMMAND_SIZE = 12;
export const COMMAND_SEND_KEEPALIVE = 1;
export const COMMAND_SEND_STAGED = 2;
export const COMMAND_DROP_STAGED = 3;
export const COMMAND_SEND_PROBE = 4;
export const COMMAND_ANSWER_PROBE = 5;

// Event, 64 B: kind u32, peer (or device) i32, local index (or sequence number) u32, path 44 B at 16.
export const EVENT_LENGTH = 64;
export const EVENT_PEER = 4;
export const EVENT_LOCAL_INDEX = 8;
export const EVENT_PATH = 16;
export const EVENT_HANDSHAKE_NEEDED = 1;
export const EVENT_KEYPAIR_CONFIRMED = 2;
export const EVENT_ENDPOINT_MOVED = 3;
export const EVENT_DEVICE_LOST = 4;
export const EVENT_PROBE = 5;
export const EVENT_PROBE_ANSWERED = 6;

// Handshake datagram, 200 B: length u32, path 44 B at 4, up to 148 B at 48; whose mac1 it carries (device + 1; 0: cannot be
// told) u16, and whether that many come that senders have to show where they are u16.
export const DATAGRAM_LENGTH = 200;
export const DATAGRAM_PATH = 4;
export const DATAGRAM_BYTES = 48;
export const DATAGRAM_DEVICE = 196;
export const DATAGRAM_PRESSED = 198;
