// The other end of a warm-up's tunnel: makes the datagrams that an egress would have sent, and those that anyone might.

import { MacKey } from '../../native-free/noise/blake2s.ts';
import {
  COOKIE_REPLY_LENGTH,
  COOKIE_REPLY_TYPE,
  INITIATION_LENGTH,
  INITIATION_MAC1_OFFSET,
  INITIATION_TYPE,
  RESPONSE_LENGTH,
  RESPONSE_MAC1_OFFSET,
  RESPONSE_TYPE,
  TRANSPORT_HEADER_LENGTH,
  TRANSPORT_RECEIVER_OFFSET,
  TRANSPORT_TYPE,
} from '../../native-free/wire/message.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { PATH_PROBE_LENGTH, PROBE, writePathProbe } from '../../native-free/wire/path-probe.ts';
import { Segmenter } from '../../native-free/wire/segment.ts';
import { MSG_DONTWAIT, sendmsg } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { type Aead, createAead, HEADROOM, TAG_LENGTH } from './aead.ts';
import { MessageBatch } from './message-batch.ts';
import { AF_INET, encodePath, sockaddrLength } from './sockaddr.ts';
import type { UdpSockets } from './udp.ts';
import { MTU } from './warm-up-packets.ts';
import { MAC1_KEY, type Sandbox, type Session } from './warm-up-sandbox.ts';

/** Of a full packet. */
export const MESSAGE_LENGTH = TRANSPORT_HEADER_LENGTH + MTU + TAG_LENGTH;

const LONGEST_PACKET = 65_536;

export class Sealer implements Disposable {
  readonly #arena = new Arena(512 << 10);
  readonly #memory = new PacketMemory(this.#arena.buffer);
  readonly #aead: Aead;
  readonly #segmenter = new Segmenter(this.#memory);
  readonly #message = new MessageBatch(this.#arena, 1, 1);
  readonly #udp: UdpSockets;
  readonly #sandbox: Sandbox;
  readonly #key: number;
  readonly #from: number;
  readonly #to: number;
  readonly #out: number;
  #counter = 0;
  #length = 0;

  constructor(sandbox: Sandbox) {
    const arena = this.#arena;
    this.#sandbox = sandbox;
    this.#udp = sandbox.options.udp;
    this.#aead = createAead(arena, sandbox.options.aeadTier);
    this.#key = arena.allocate(32);
    this.#from = arena.allocate(LONGEST_PACKET + 1024) + 2 * HEADROOM;
    this.#to = arena.allocate(4096) + HEADROOM;
    this.#out = arena.allocate(LONGEST_PACKET);
  }

  /** A packet behind its virtio_net_hdr: as many messages as it takes, one after another, as UDP GRO hands them over. */
  sealPacket(session: Session, packet: Uint8Array): void {
    this.#arena.bytes.set(packet, this.#from);
    this.#segmenter.begin(this.#from, packet.length, MTU);
    this.#length = 0;
    while (this.#segmenter.next()) this.#seal(session, this.#segmenter.offset, this.#segmenter.paddedLength);
  }

  sealKeepalive(session: Session): void {
    this.#length = 0;
    this.#seal(session, this.#from, 0);
  }

  /** Of a path's MTU. */
  sealProbe(session: Session): void {
    writePathProbe(this.#memory, this.#from, PATH_PROBE_LENGTH, PROBE, 1);
    this.#length = 0;
    this.#seal(session, this.#from, PATH_PROBE_LENGTH);
  }

  #seal(session: Session, from: number, length: number): void {
    const { bytes, view } = this.#arena;
    bytes.set(this.#sandbox.keyOf(session), this.#key);
    this.#aead.seal(this.#key, this.#counter, from, length, this.#to);
    const header = this.#to - TRANSPORT_HEADER_LENGTH;
    view.setUint32(header, TRANSPORT_TYPE, true);
    view.setUint32(header + TRANSPORT_RECEIVER_OFFSET, this.#sandbox.indexOf(session), true);
    view.setUint32(header + 8, this.#counter++, true);
    view.setUint32(header + 12, 0, true);
    const whole = TRANSPORT_HEADER_LENGTH + length + TAG_LENGTH;
    bytes.copyWithin(this.#out + this.#length, header, header + whole);
    this.#length += whole;
  }

  /** What was sealed last. Borrowed until the next. */
  get sealed(): Uint8Array {
    return this.#arena.bytes.subarray(this.#out, this.#out + this.#length);
  }

  /** Sends what was sealed last to the socket that it is sent from, under a traffic class. False: it cannot. */
  send(trafficClass: number): boolean {
    const isOne = this.#length <= MESSAGE_LENGTH;
    if (!isOne && !this.#udp.offloads.segmentation) return false;
    const message = this.#message;
    const path = encodePath({ address: '127.0.0.1', port: this.#udp.port });
    this.#arena.bytes.set(path, message.pathOffset(0));
    message.setNameLength(0, sockaddrLength(AF_INET));
    message.setPart(0, 0, this.#out, this.#length);
    message.setPartCount(0, 1);
    message.setControl(0, isOne ? 0 : MESSAGE_LENGTH, trafficClass);
    return sendmsg(this.#udp.v4, message.addressOf(0), MSG_DONTWAIT) === this.#length;
  }

  [Symbol.dispose](): void {
    this.#arena.unmap();
  }
}

/** Handshake messages of nobody: those of the sandbox's network, and one of none. */
export const handshakes = (): readonly Uint8Array[] => {
  const mine = [
    [INITIATION_TYPE, INITIATION_LENGTH, INITIATION_MAC1_OFFSET],
    [RESPONSE_TYPE, RESPONSE_LENGTH, RESPONSE_MAC1_OFFSET],
  ].map(([type = 0, length = 0, macAt = 0]) => {
    const message = new Uint8Array(length);
    message[0] = type;
    message.set(new MacKey(MAC1_KEY).mac(message.subarray(0, macAt)), macAt);
    return message;
  });
  const cookie = new Uint8Array(COOKIE_REPLY_LENGTH);
  cookie[0] = COOKIE_REPLY_TYPE;
  const foreign = new Uint8Array(INITIATION_LENGTH);
  foreign[0] = INITIATION_TYPE;
  return [...mine, cookie, foreign];
};
