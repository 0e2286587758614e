// Anyone who can send UDP to a datapath: a socket in a host of the lab that sends whatever bytes it is given, and the
// means to make transport messages, good and bad, out of a keypair that a test knows.

import { createCipheriv } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Endpoint, Keypair } from '../../../native-free/device/data-plane.ts';
import { addressBytes, parseAddress } from '../../../native-free/ipam/prefix.ts';
import { MessageBatch } from '../../../src/datapath/message-batch.ts';
import { AF_INET, encodePath, encodeSockaddr, sockaddrLength } from '../../../src/datapath/sockaddr.ts';
import { inNamespace } from '../../../src/datapath/tun.ts';
import { closeUdp, openUdp, type UdpSockets } from '../../../src/datapath/udp.ts';
import { errno, POLLIN, poll, read, sendmsg, sendto } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import type { Host } from '../../lab/host.ts';

export class Eve {
  readonly #sockets: UdpSockets;
  readonly #arena = new Arena(1 << 17);
  readonly #joining = new Arena(1 << 17);
  readonly #joined = new MessageBatch(this.#joining, 1, 1);
  readonly #whole = this.#joining.allocate(65_536);

  constructor(host: Host) {
    this.#sockets = inNamespace(host.netns, () => openUdp({ port: 0, allowOffloads: false }));
  }

  get port(): number {
    return this.#sockets.port;
  }

  send(datagram: Uint8Array, to: Endpoint): void {
    const sockaddr = encodeSockaddr(to);
    const family = sockaddr[0] ?? 0;
    const { bytes, address } = this.#arena;
    bytes.set(sockaddr, 0);
    bytes.set(datagram, 64);
    const fd = family === AF_INET ? this.#sockets.v4 : this.#sockets.v6;
    const sent = sendto(fd, address + 64, datagram.length, 0, address, sockaddrLength(family));
    if (sent !== datagram.length) throw new Error(`${datagram.length} B did not leave`);
  }

  /** Over IPv4, in one send that the kernel cuts only where it must: all of one length, but the last may be shorter. */
  sendJoined(datagrams: readonly Uint8Array[], to: Endpoint): void {
    const whole = Buffer.concat(datagrams);
    const message = this.#joined;
    this.#joining.bytes.set(whole, this.#whole);
    this.#joining.bytes.set(encodePath(to), message.pathOffset(0));
    message.setNameLength(0, sockaddrLength(AF_INET));
    message.setPart(0, 0, this.#whole, whole.length);
    message.setPartCount(0, 1);
    message.setControl(0, datagrams[0]?.length ?? 0, 0);
    if (sendmsg(this.#sockets.v4, message.addressOf(0), 0) !== whole.length)
      throw new Error(`${whole.length} B did not leave: ${errno()}`);
  }

  /** The next datagram that has come over IPv4; undefined when none comes. */
  async receive(): Promise<Uint8Array | undefined> {
    const { view, bytes, address } = this.#arena;
    for (let i = 0; i < 200; i++) {
      view.setInt32(0, this.#sockets.v4, true);
      view.setInt32(4, POLLIN, true);
      if (poll(address, 1, 0) === 1) return bytes.slice(64, 64 + read(this.#sockets.v4, address + 64, 65536));
      await sleep(5);
    }
    return undefined;
  }

  close(): void {
    this.#arena.unmap();
    this.#joining.unmap();
    closeUdp(this.#sockets);
  }
}

/** Transport data as the holder of `keypair` would send it. */
export const seal = (keypair: Keypair, counter: number | bigint, packet: Uint8Array): Uint8Array => {
  const message = Buffer.alloc(16 + packet.length + 16);
  message.writeUInt32LE(4, 0);
  message.writeUInt32LE(keypair.remoteIndex, 4);
  message.writeBigUInt64LE(BigInt(counter), 8);
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(BigInt(counter), 4);
  const cipher = createCipheriv('chacha20-poly1305', keypair.sendKey, nonce, { authTagLength: 16 });
  cipher.update(packet).copy(message, 16);
  cipher.final();
  cipher.getAuthTag().copy(message, 16 + packet.length);
  return new Uint8Array(message);
};

/** An IPv4 packet of protocol 253 (for experiments, RFC 3692) that says nothing. */
export const packet = (source: string, destination: string, length = 32): Uint8Array => {
  const bytes = Buffer.alloc(length);
  bytes.writeUInt8(0x45, 0);
  bytes.writeUInt16BE(length, 2);
  bytes.writeUInt8(64, 8);
  bytes.writeUInt8(253, 9);
  bytes.set(addressBytes(parseAddress(source)), 12);
  bytes.set(addressBytes(parseAddress(destination)), 16);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += bytes.readUInt16BE(i);
  sum = (sum & 0xffff) + (sum >>> 16);
  bytes.writeUInt16BE(~(sum + (sum >>> 16)) & 0xffff, 10);
  return new Uint8Array(bytes);
};
