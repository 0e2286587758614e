// Packets that wait for a handshake: per peer the newest, bounded in number and bytes, the oldest dropped first. One network
// fills its share and no more, whatever its pods send to nodes that do not answer.
// They are copies of what the TUN gave, so a super-packet waits whole. Not on the hot path.

/** MAX_QUEUED_PACKETS of the kernel. */
const MAX_PACKETS = 128;
const MAX_BYTES_PER_PEER = 512 << 10;
/** Of all workers together. */
const MAX_BYTES_PER_DEVICE = 8 << 20;
const MAX_BYTES = 64 << 20;

export interface StagedPacket {
  /** virtio_net_hdr and packet. */
  readonly bytes: Uint8Array;
  readonly device: number;
  /** How many packets it will be on the wire: more than one of a super-packet. */
  readonly packets: number;
}

interface Queue {
  readonly packets: StagedPacket[];
  /** A peer is one device's. */
  readonly device: number;
  bytes: number;
}

export class Staging {
  readonly #queues = new Map<number, Queue>();
  readonly #bytesOf = new Map<number, number>();
  readonly #mostPerDevice: number;
  readonly #most: number;
  #bytes = 0;

  /** One of so many, each a worker's: a flow's packets wait with one of them, but a pod may send many. */
  constructor(workers = 1) {
    this.#mostPerDevice = MAX_BYTES_PER_DEVICE / workers;
    this.#most = MAX_BYTES / workers;
  }

  /** Keeps `packet`. Returns how many packets were dropped for it (itself included, when all is full). */
  add(peer: number, packet: StagedPacket): number {
    const { device } = packet;
    const { length } = packet.bytes;
    if (this.#bytes + length > this.#most) return packet.packets;
    if ((this.#bytesOf.get(device) ?? 0) + length > this.#mostPerDevice) return packet.packets;
    const queue = this.#queues.get(peer) ?? { packets: [], device, bytes: 0 };
    this.#queues.set(peer, queue);
    let dropped = 0;
    while (queue.packets.length >= MAX_PACKETS || queue.bytes + length > MAX_BYTES_PER_PEER) {
      const oldest = queue.packets.shift();
      if (oldest === undefined) break;
      this.#count(queue, -oldest.bytes.length);
      dropped += oldest.packets;
    }
    queue.packets.push(packet);
    this.#count(queue, length);
    return dropped;
  }

  /** Takes all of a peer's, oldest first. */
  take(peer: number): readonly StagedPacket[] {
    const queue = this.#queues.get(peer);
    if (queue === undefined) return [];
    this.#queues.delete(peer);
    this.#count(queue, -queue.bytes);
    return queue.packets;
  }

  #count(queue: Queue, bytes: number): void {
    queue.bytes += bytes;
    this.#bytes += bytes;
    const left = (this.#bytesOf.get(queue.device) ?? 0) + bytes;
    if (left === 0) this.#bytesOf.delete(queue.device);
    else this.#bytesOf.set(queue.device, left);
  }
}
