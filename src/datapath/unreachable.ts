// Tells who sent a packet that it cannot be carried, by an ICMP error into the TUN it came from: a connection then fails at
// once instead of timing out, or goes on with smaller packets. So many unreachables a second a device at most: whoever scans a
// network is not worth more. Of "too big" so many for each of those who send: without it a stream stands still, so nobody
// may use up what another needs (Linux does not limit it at all).

import { LONGEST_UNREACHABLE, writeTooBig, writeUnreachable } from '../../native-free/wire/icmp.ts';
import type { IpHeader } from '../../native-free/wire/ip.ts';
import type { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { VNET_HEADER_LENGTH, writePlainVnetHeader } from '../../native-free/wire/virtio.ts';
import { write } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import type { WorkerDevice } from './device-table.ts';
import { MAX_DEVICES } from './worker-protocol.ts';

/** Of a token bucket. */
const BURST = 50;
const PER_SECOND = 100;
/** Sources of a device share a bucket when the last bits of their addresses are alike. */
const SOURCES = 64;

/** The packet is aligned; its virtio_net_hdr lies before it. */
const PACKET = 16;

export class Unreachable {
  readonly #arena: Arena;
  readonly #memory: PacketMemory;
  readonly #at: number;
  readonly #unreachables = new Buckets(MAX_DEVICES);
  readonly #tooBigs = new Buckets(MAX_DEVICES * SOURCES);

  /** Bytes an arena must have for this. */
  static readonly ARENA = PACKET + LONGEST_UNREACHABLE + 64;

  constructor(arena: Arena, memory: PacketMemory) {
    this.#arena = arena;
    this.#memory = memory;
    this.#at = arena.allocate(PACKET + LONGEST_UNREACHABLE) + PACKET;
  }

  /** `ip`: the packet, as it lies in the arena. Whether an error was sent. */
  tell(device: WorkerDevice, ip: IpHeader, now: number): boolean {
    const bucket = device.device;
    if (!this.#unreachables.has(bucket, now)) return false;
    if (!this.#send(device, writeUnreachable(this.#memory, ip, this.#at))) return false;
    this.#unreachables.take(bucket);
    return true;
  }

  /** Likewise, of a packet with more than `mtu` bytes that may not be cut. */
  tellTooBig(device: WorkerDevice, ip: IpHeader, mtu: number, now: number): boolean {
    const last = this.#memory.bytes[ip.source + ip.addressLength - 1] ?? 0;
    const bucket = device.device * SOURCES + (last % SOURCES);
    if (!this.#tooBigs.has(bucket, now)) return false;
    if (!this.#send(device, writeTooBig(this.#memory, ip, mtu, this.#at))) return false;
    this.#tooBigs.take(bucket);
    return true;
  }

  #send(device: WorkerDevice, length: number): boolean {
    if (length === 0) return false;
    const from = this.#at - VNET_HEADER_LENGTH;
    writePlainVnetHeader(this.#memory.view, from);
    return write(device.fd, this.#arena.address + from, VNET_HEADER_LENGTH + length) > 0;
  }
}

/** Token buckets. */
class Buckets {
  readonly #tokens: Float64Array;
  readonly #filledAt: Float64Array;

  constructor(count: number) {
    this.#tokens = new Float64Array(count).fill(BURST);
    this.#filledAt = new Float64Array(count);
  }

  has(bucket: number, now: number): boolean {
    const earned = ((now - (this.#filledAt[bucket] ?? 0)) / 1000) * PER_SECOND;
    const tokens = Math.min(BURST, (this.#tokens[bucket] ?? 0) + Math.max(earned, 0));
    this.#tokens[bucket] = tokens;
    this.#filledAt[bucket] = now;
    return tokens >= 1;
  }

  take(bucket: number): void {
    this.#tokens[bucket] = (this.#tokens[bucket] ?? 0) - 1;
  }
}
