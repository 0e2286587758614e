// From inside to outside, one packet at a time (whitepaper section 3 and 5.4.6). Functions stand in the order of the
// flow:
//
//   1. sendPacket      the destination's longest match among the allowed IPs names the peer, which must have an
//                      endpoint; what lies past the packet's own length is not sent
//   2. stage           the packet joins the peer's queue; when that is full, the oldest goes
//   3. sendStaged      the keypair in use must be young enough and have counters left, else a handshake is asked for
//   4. seal            take the next counter, pad to 16 up to the MTU, seal
//   5. send            to the peer's endpoint with the packet's ECN mark, and take note for the timers

import {
  PADDING_MULTIPLE,
  REJECT_AFTER_TIME,
  SEND_AFTER_MESSAGES_LIMIT,
  TAG_LENGTH,
} from '../noise/constants.ts';
import { ECN_MASK, enterTunnel, NOT_ECT } from '../wire/ecn.ts';
import { Transport } from '../wire/message.ts';
import type { Endpoint } from './data-plane.ts';
import type { DropReason } from './drops.ts';
import { readInnerPacket } from './inner-packet.ts';
import type { InstalledKeypair, Plane, PlanePeer } from './plane.ts';

/** Packets that may wait for a handshake, a peer. */
export const STAGED_LIMIT = 128;

const EMPTY = new Uint8Array(0);

/** A packet from the TUN. Returns why it was dropped. Keeps it. */
export const sendPacket = (plane: Plane, packet: Uint8Array, now: number): DropReason | undefined => {
  const inner = readInnerPacket(packet);
  if (inner === undefined) return 'malformed-packet';
  const id = plane.allowedIps.lookup(inner.destination);
  if (id === undefined) return 'no-peer';
  const peer = plane.peer(id);
  if (peer.endpoint === undefined) return 'no-endpoint';
  stage(plane, peer, packet.subarray(0, inner.totalLength));
  sendStaged(plane, peer, now);
  return undefined;
};

const stage = (plane: Plane, peer: PlanePeer, packet: Uint8Array): void => {
  if (peer.staged.length === STAGED_LIMIT) {
    peer.staged.shift();
    plane.drops.count('staged-overflow');
  }
  peer.staged.push(packet);
};

export const sendStaged = (plane: Plane, peer: PlanePeer, now: number): void => {
  if (peer.staged.length === 0) return;
  const { endpoint } = peer;
  if (endpoint === undefined) {
    for (const _ of peer.staged) plane.drops.count('no-endpoint');
    peer.staged = [];
    return;
  }
  const installed = usableKeypair(peer, now);
  if (installed === undefined) {
    plane.report({ kind: 'handshake-needed', peer: peer.id });
    return;
  }
  const packets = peer.staged;
  peer.staged = [];
  for (const packet of packets)
    send(plane, peer, seal(plane, installed, packet), packet.length > 0, endpoint, now, markOf(packet));
};

/** An empty packet, which the other side takes as a sign of life and nothing more. */
export const sendKeepalive = (plane: Plane, peer: PlanePeer, now: number): void => {
  const installed = usableKeypair(peer, now);
  if (installed === undefined || peer.endpoint === undefined) return;
  send(plane, peer, seal(plane, installed, EMPTY), false, peer.endpoint, now, NOT_ECT);
};

const usableKeypair = (peer: PlanePeer, now: number): InstalledKeypair | undefined => {
  const installed = peer.inUse;
  if (installed === undefined || now - installed.keypair.createdAt >= REJECT_AFTER_TIME) return undefined;
  return installed.sendCounter >= SEND_AFTER_MESSAGES_LIMIT ? undefined : installed;
};

const seal = (plane: Plane, installed: InstalledKeypair, packet: Uint8Array): Uint8Array => {
  const counter = installed.sendCounter++;
  const plaintext = new Uint8Array(paddedLength(packet.length, plane.mtu));
  plaintext.set(packet);
  const message = Transport.create(installed.keypair.remoteIndex, counter, plaintext.length + TAG_LENGTH);
  const sealed = plane.primitives.seal(installed.sendKey, BigInt(counter), plaintext, EMPTY);
  message.sealedPacket.set(sealed);
  return message.bytes;
};

/** Up to a multiple of 16, but not past the MTU; a packet past the MTU is left as it is. */
export const paddedLength = (length: number, mtu: number): number =>
  Math.max(length, Math.min(mtu, Math.ceil(length / PADDING_MULTIPLE) * PADDING_MULTIPLE));

const markOf = (packet: Uint8Array): number =>
  enterTunnel((readInnerPacket(packet)?.trafficClass ?? 0) & ECN_MASK);

const send = (
  plane: Plane,
  { activity }: PlanePeer,
  datagram: Uint8Array,
  isData: boolean,
  endpoint: Endpoint,
  now: number,
  mark: number,
): void => {
  activity.sentAt = now;
  if (isData) activity.dataSentAt = now;
  activity.txBytes += datagram.length;
  plane.outside.send(datagram, endpoint, mark);
};
