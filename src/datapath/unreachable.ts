// Tells who sent a packet that it cannot be carried, by an ICMP error into the TUN it came from: a connection then fails at
// once instead of timing out, or goes on with smaller packets. So many of each a second a device at most: whoever scans a
// network is not worth more.

import { LONGEST_UNREACHABLE, writeTooBig, writeUnreachable } from '../../native-free/wire/icmp.ts';
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
  readonly #unreachables = new Buckets();
  readonly #tooBigs = new Buckets();

  /** Bytes an arena must have for this. */
  static readonly ARENA = PACKET + LONGEST_UNREACHABLE + 64;

  constructor(arena: Arena, memory: PacketMemory) {
    this.#arena = arena;
    this.#memory = memory;
    this.#at = arena.allocate(PACKET + LONGEST_UNREACHABLE) + PACKET;
  }

  /** `ip`: the packet, as it lies in the arena. Whether an error was sent. */
  tell(device: WorkerDevice, ip: IpHeader, now: number): boolean {
    if (!this.#unreachables.has(device.device, now)) return false;
    return this.#send(device, this.#unreachables, writeUnreachable(this.#memory, ip, this.#at));
  }

  /** Likewise, of a packet with more than `mtu` bytes that may not be cut. */
  tellTooBig(device: WorkerDevice, ip: IpHeader, mtu: number, now: number): boolean {
    if (!this.#tooBigs.has(device.device, now)) return false;
    return this.#send(device, this.#tooBigs, writeTooBig(this.#memory, ip, mtu, this.#at));
  }

  #send(device: WorkerDevice, buckets: Buckets, length: number): boolean {
    if (length === 0) return false;
    const from = this.#at - VNET_HEADER_LENGTH;
    writePlainVnetHeader(this.#memory.view, from);
    buckets.take(device.device);
    return write(device.fd, this.#arena.address + from, VNET_HEADER_LENGTH + length) > 0;
  }
}

/** One for each device. */
class Buckets {
  readonly #tokens = new Float64Array(MAX_DEVICES).fill(BURST);
  readonly #filledAt = new Float64Array(MAX_DEVICES);

  has(device: number, now: number): boolean {
    const earned = ((now - (this.#filledAt[device] ?? 0)) / 1000) * PER_SECOND;
    const tokens = Math.min(BURST, (this.#tokens[device] ?? 0) + Math.max(earned, 0));
    this.#tokens[device] = tokens;
    this.#filledAt[device] = now;
    return tokens >= 1;
  }

  take(device: number): void {
    this.#tokens[device] = (this.#tokens[device] ?? 0) - 1;
  }
}
