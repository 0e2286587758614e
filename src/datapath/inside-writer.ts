// From the opened packets of a batch to their networks' TUNs: what belongs together goes in one super-packet and one system call.

import { Coalescer, MAX_SLICES } from '../../native-free/wire/coalesce.ts';
import { flowHash } from '../../native-free/wire/flow-hash.ts';
import type { IpHeader } from '../../native-free/wire/ip.ts';
import type { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { VNET_HEADER_LENGTH } from '../../native-free/wire/virtio.ts';
import { write, writev } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import type { Counters, IngressCounter } from './counters.ts';
import type { DeviceTable, WorkerDevice } from './device-table.ts';
import { NO_SLOT } from './shared-state.ts';

const IOVEC = 16;

export interface InsideWriterParts {
  readonly arena: Arena;
  readonly memory: PacketMemory;
  readonly devices: DeviceTable;
  readonly counters: Counters<IngressCounter>;
}

export class InsideWriter {
  readonly #parts: InsideWriterParts;
  readonly #packets: number;
  /** Of a flow's hash, those that say which queue of a TUN it goes by. */
  readonly #queueBits: number;
  readonly #coalescers: (Coalescer | undefined)[] = [];
  readonly #iov: number;
  /** Number of the device. */
  #lastWritten = NO_SLOT;

  /** For at most `packets` between writes, to TUNs with `queues` queues each (a power of two). */
  constructor(parts: InsideWriterParts, packets: number, queues: number) {
    this.#parts = parts;
    this.#packets = packets;
    this.#queueBits = queues - 1;
    this.#iov = parts.arena.allocate(MAX_SLICES * IOVEC);
  }

  /** After the devices have changed. One coalescer a device: addresses of two networks may be equal. */
  match(): void {
    const { devices, memory } = this.#parts;
    for (const device of devices.all) {
      this.#coalescers[device.device] ??= new Coalescer(memory, this.#packets, {
        tcp: device.offload !== 'none',
        udp: device.offload === 'tcp+udp',
      });
    }
    this.#coalescers.forEach((_, i) => {
      if (devices.get(i) === undefined) this.#coalescers[i] = undefined;
    });
  }

  /** The packet stays where it is until `write`. False: there is no room for more before that. */
  push(device: WorkerDevice, ip: IpHeader): boolean {
    return this.#coalescers[device.device]?.push(ip) ?? true;
  }

  /** The device whose TUN was written to last since this was asked before, or NO_SLOT. */
  takeLastWritten(): number {
    const device = this.#lastWritten;
    this.#lastWritten = NO_SLOT;
    return device;
  }

  /** Writes what was pushed, device by device. */
  write(): void {
    for (const device of this.#parts.devices.all) {
      const coalescer = this.#coalescers[device.device];
      if (coalescer === undefined) continue;
      const writes = coalescer.finish();
      for (let i = 0; i < writes; i++) {
        const first = coalescer.firstSlice[i] ?? 0;
        this.#writeSlices(device, coalescer, first, (coalescer.firstSlice[i + 1] ?? 0) - first);
      }
      if (writes === 0) continue;
      coalescer.reset();
      this.#lastWritten = device.device;
    }
  }

  #writeSlices(device: WorkerDevice, coalescer: Coalescer, first: number, count: number): void {
    const { arena, counters, memory } = this.#parts;
    const head = coalescer.sliceOffset[first] ?? 0;
    const fd = this.#queueBits === 0 ? device.fd : this.#queueOf(device, head + VNET_HEADER_LENGTH);
    let result: number;
    if (count === 1) {
      result = write(fd, arena.address + head, coalescer.sliceLength[first] ?? 0);
    } else {
      for (let i = 0; i < count; i++) {
        const iov = this.#iov + i * IOVEC;
        arena.setPointer(iov, coalescer.sliceOffset[first + i] ?? 0);
        memory.view.setUint32(iov + 8, coalescer.sliceLength[first + i] ?? 0, true);
      }
      result = writev(fd, arena.address + this.#iov, count);
      counters.add(counters.at['super-packets'], 1);
    }
    counters.add(counters.at.writes, 1);
    if (result < 0) counters.add(counters.at['dropped:write-failed'], count);
  }

  /** The kernel hands answers over by the queue that a flow was written to last: those of one peer are to go by all. */
  #queueOf(device: WorkerDevice, packet: number): number {
    return device.fds[flowHash(this.#parts.memory.view, packet) & this.#queueBits] ?? device.fd;
  }
}
