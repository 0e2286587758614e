// From outside to inside, one message at a time (whitepaper section 3, 5.4.6 and 6.5). Functions stand in the order
// of the flow:
//
//   1. receiveTransport   the receiver index names the keypair, which must be young enough and not have counted too far
//   2. open               authenticate, then consult the replay window: a forgery never moves it
//   3. takeNote           for the timers; tell the device of a confirmed keypair and of another endpoint
//   4. deliver            an empty packet is a keepalive; else cut to the IP length, and the source's longest match
//                         among the allowed IPs must be exactly this peer; the outer header's ECN mark is taken over

import { RECEIVE_LIMIT_HIGH, REJECT_AFTER_TIME } from '../noise/constants.ts';
import { ECN_MASK, leaveTunnel, NOT_ECT } from '../wire/ecn.ts';
import { Transport } from '../wire/message.ts';
import type { Endpoint } from './data-plane.ts';
import type { DropReason } from './drops.ts';
import { sameEndpoint } from './endpoints.ts';
import { readInnerPacket, withMark } from './inner-packet.ts';
import type { InstalledKeypair, Plane, PlanePeer } from './plane.ts';

const NOTHING = new Uint8Array(0);

/** A datagram of type 4, as the port found it, with its outer header's ECN mark. Returns why it was dropped. Borrows. */
export const receiveTransport = (
  plane: Plane,
  datagram: Uint8Array,
  source: Endpoint,
  now: number,
  outerMark = NOT_ECT,
): DropReason | undefined => {
  const message = Transport.parse(datagram);
  if (message === undefined) return 'malformed-message';
  const installed = plane.keypair(message.receiver);
  if (installed === undefined) return 'unknown-index';
  if (now - installed.keypair.createdAt >= REJECT_AFTER_TIME) return 'keypair-expired';
  if (message.counterHigh >= RECEIVE_LIMIT_HIGH) return 'keypair-expired';
  const packet = open(plane, installed, message);
  if (typeof packet === 'string') return packet;
  takeNote(plane, installed, datagram.length, packet.length > 0, source, now);
  return deliver(plane, installed.peer, packet, outerMark);
};

const open = (plane: Plane, installed: InstalledKeypair, message: Transport): Uint8Array | DropReason => {
  const { counterHigh, counterLow } = message;
  const counter = (BigInt(counterHigh) << 32n) | BigInt(counterLow);
  const packet = plane.primitives.open(installed.receiveKey, counter, message.sealedPacket, NOTHING);
  if (packet === undefined) return 'unauthentic';
  return installed.replay.accept(counterHigh, counterLow) ? packet : 'replayed-counter';
};

const takeNote = (
  plane: Plane,
  installed: InstalledKeypair,
  length: number,
  isData: boolean,
  source: Endpoint,
  now: number,
): void => {
  const { peer, keypair } = installed;
  peer.activity.receivedAt = now;
  if (isData) peer.activity.dataReceivedAt = now;
  peer.activity.rxBytes += length;
  if (peer.endpoint === undefined || !sameEndpoint(peer.endpoint, source))
    plane.report({ kind: 'endpoint-moved', peer: peer.id, endpoint: source });
  if (peer.inUse !== installed)
    plane.report({ kind: 'keypair-confirmed', peer: peer.id, localIndex: keypair.localIndex });
};

const deliver = (
  plane: Plane,
  peer: PlanePeer,
  packet: Uint8Array,
  outerMark: number,
): DropReason | undefined => {
  if (packet.length === 0) return undefined;
  const inner = readInnerPacket(packet);
  if (inner === undefined) return 'malformed-packet';
  if (plane.allowedIps.lookup(inner.source) !== peer.id) return 'wrong-source';
  const innerMark = inner.trafficClass & ECN_MASK;
  const mark = leaveTunnel(innerMark, outerMark);
  if (mark < 0) return 'congested';
  const delivered = packet.subarray(0, inner.totalLength);
  plane.inside.deliver(mark === innerMark ? delivered : withMark(delivered, mark));
  return undefined;
};
