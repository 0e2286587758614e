// What the workers send, opened with the keys that they seal with, so that it can be compared with what their twin sends: flow by
// flow, each in its order, since egress lets what is of sparse flows pass; and the counters, each once and in order.

import { flowHash } from '../../../native-free/wire/flow-hash.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import type { Arrived } from './outsider.ts';
import type { Session } from './twins.ts';

const TRANSPORT = 4;
const HEADER = 16;
const NOTHING = new Uint8Array();

/** By session and flow: of each message what was sealed and its mark; and by session the counters. */
export const messagesOf = (arrived: readonly Arrived[], sessions: readonly Session[]) => {
  const parts = new Map<string, string[]>();
  const add = (name: string, entry: string): void => {
    parts.set(name, [...(parts.get(name) ?? []), entry]);
  };
  for (const { bytes, mark } of arrived) {
    const opened = open(bytes, sessions);
    if (opened === undefined) {
      add('of no session', `${mark} ${hex(bytes)}`);
      continue;
    }
    const { name, counter, plaintext } = opened;
    add(`counters of ${name}`, `${counter}`);
    add(`${name}, ${flowOf(plaintext)}`, `${mark} ${hex(plaintext)}`);
  }
  return [...parts].sort(([a], [b]) => (a < b ? -1 : 1));
};

const open = (bytes: Uint8Array, sessions: readonly Session[]) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < HEADER || view.getUint32(0, true) !== TRANSPORT) return undefined;
  const index = view.getUint32(4, true);
  const counter = view.getBigUint64(8, true);
  for (const { keypair } of sessions) {
    if (keypair.remoteIndex !== index) continue;
    const plaintext = opensslPrimitives.open(keypair.sendKey, counter, bytes.subarray(HEADER), NOTHING);
    if (plaintext !== undefined) return { name: `session ${keypair.localIndex}`, counter, plaintext };
  }
  return undefined;
};

/** As egress sees it; what is too short for a flow's ports is a flow of its own. */
const flowOf = (packet: Uint8Array): string => {
  if (packet.length === 0) return 'keepalives';
  const room = new DataView(new ArrayBuffer(Math.max(packet.length, 128)));
  new Uint8Array(room.buffer).set(packet);
  const isV6 = room.getUint8(0) >> 4 === 6;
  const end = isV6 ? 40 + room.getUint16(4) : room.getUint16(2);
  const ports = isV6 ? 40 : (room.getUint8(0) & 15) * 4;
  return end < ports + 4 ? hex(packet) : `flow ${flowHash(room, 0)}`;
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
