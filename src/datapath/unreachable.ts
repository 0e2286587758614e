// Tells who sent a packet that it cannot be carried, by an ICMP error into the TUN it came from: a connection then fails at
// once instead of timing out. So many a second a device at most: whoever scans a network is not worth more.

import { LONGEST_UNREACHABLE, writeUnreachable } from '../../native-free/wire/icmp.ts';
import type { IpHeader } from '../../native-free/wire/ip.ts';
import type { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { VNET_HEADER_LENGTH, writePlainVnetHeader } from '../../native-free/wire/virtio.ts';
import { write } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import type { WorkerDevice } from './device-table.ts';
import { MAX_DEVICES } from './worker-protocol.ts';

/** A token bucket. */
const BURST = 50;
const PER_SECOND = 100;

/** The packet is aligned; its virtio_net_hdr lies before it. */
const PACKET = 16;

export class Unreachable {
  readonly #arena: Arena;
  readonly #memory: PacketMemory;
  readonly #at: number;
  readonly #tokens = new Float64Array(MAX_DEVICES).fill(BURST);
  readonly #filledAt = new Float64Array(MAX_DEVICES);

  /** Bytes an arena must have for this. */
  static readonly ARENA = PACKET + LONGEST_UNREACHABLE + 64;

  constructor(arena: Arena, memory: PacketMemory) {
    this.#arena = arena;
    this.#memory = memory;
    this.#at = arena.allocate(PACKET + LONGEST_UNREACHABLE) + PACKET;
  }

  /** `ip`: the packet, as it lies in the arena. Whether an error was sent. */
  tell(device: WorkerDevice, ip: IpHeader, now: number): boolean {
    if (!this.#mayTell(device.device, now)) return false;
    const length = writeUnreachable(this.#memory, ip, this.#at);
    if (length === 0) return false;
    const from = this.#at - VNET_HEADER_LENGTH;
    writePlainVnetHeader(this.#memory.view, from);
    this.#tokens[device.device] = (this.#tokens[device.device] ?? 0) - 1;
    return write(device.fd, this.#arena.address + from, VNET_HEADER_LENGTH + length) > 0;
  }

  #mayTell(device: number, now: number): boolean {
    const earned = ((now - (this.#filledAt[device] ?? 0)) / 1000) * PER_SECOND;
    const tokens = Math.min(BURST, (this.#tokens[device] ?? 0) + Math.max(earned, 0));
    this.#tokens[device] = tokens;
    this.#filledAt[device] = now;
    return tokens >= 1;
  }
}
