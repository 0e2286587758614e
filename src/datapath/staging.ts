// Packets that wait for a handshake: per peer the newest, bounded in number and bytes, the oldest dropped first.
// They are copies of what the TUN gave, so a super-packet waits whole. Not on the hot path.

/** MAX_QUEUED_PACKETS of the kernel. */
const MAX_PACKETS = 128;
const MAX_BYTES_PER_PEER = 512 << 10;
const MAX_BYTES = 32 << 20;

export interface StagedPacket {
  /** virtio_net_hdr and packet. */
  readonly bytes: Uint8Array;
  readonly device: number;
}

interface Queue {
  readonly packets: StagedPacket[];
  bytes: number;
}

export class Staging {
  readonly #queues = new Map<number, Queue>();
  #bytes = 0;

  /** Keeps `packet`. Returns how many packets were dropped for it (itself included, when all is full). */
  add(peer: number, packet: StagedPacket): number {
    const length = packet.bytes.length;
    if (this.#bytes + length > MAX_BYTES) return 1;
    const queue = this.#queues.get(peer) ?? { packets: [], bytes: 0 };
    this.#queues.set(peer, queue);
    let dropped = 0;
    while (queue.packets.length >= MAX_PACKETS || queue.bytes + length > MAX_BYTES_PER_PEER) {
      const oldest = queue.packets.shift();
      if (oldest === undefined) break;
      queue.bytes -= oldest.bytes.length;
      this.#bytes -= oldest.bytes.length;
      dropped += 1;
    }
    queue.packets.push(packet);
    queue.bytes += length;
    this.#bytes += length;
    return dropped;
  }

  /** Takes all of a peer's, oldest first. */
  take(peer: number): readonly StagedPacket[] {
    const queue = this.#queues.get(peer);
    if (queue === undefined) return [];
    this.#queues.delete(peer);
    this.#bytes -= queue.bytes;
    return queue.packets;
  }

  has(peer: number): boolean {
    return this.#queues.has(peer);
  }
}
