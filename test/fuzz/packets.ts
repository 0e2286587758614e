// IP packets and flows drawn from an input, mostly sound, for targets to break.

import { buildPacket, type Flow, payload } from '../native-free/wire/packets.ts';
import type { Source } from './source.ts';

/** A flow of few addresses and ports, so that packets of two draws often belong together. */
export const someFlow = (source: Source): Flow => ({
  version: source.pick([4, 6]),
  protocol: source.pick(['tcp', 'udp']),
  source: source.between(0, 2),
  destination: source.between(0, 1),
  sourcePort: source.between(0, 2),
  destinationPort: 443,
  trafficClass: source.pick([0, 1, 2, 3, 0xb8, 0xff]),
  ttl: source.pick([64, 1, 255]),
  identification: source.u16(),
  sequence: source.u32(),
  acknowledgment: source.between(0, 3),
  flags: source.pick([0x10, 0x18, 0x11, 0x02, 0x90, 0x50, 0x30, source.byte()]),
  window: source.pick([500, 0, 0xffff]),
  options: source.take(source.between(0, 10) * 4),
});

export const somePayload = (source: Source, most: number): Uint8Array =>
  payload(source.between(0, most), source.byte());

/** A sound packet, an IPv6 one with extension headers, or anything. */
export const somePacket = (source: Source, most = 200): Uint8Array => {
  const kind = source.between(0, 5);
  if (kind === 0) return source.some(120);
  if (kind === 1) return withExtensions(source);
  return buildPacket(someFlow(source), somePayload(source, most));
};

const withExtensions = (source: Source): Uint8Array => {
  const kinds = [0, 43, 44, 60];
  const headers: Uint8Array[] = [];
  const order = Array.from({ length: source.between(1, 10) }, () => source.pick(kinds));
  for (const [i, kind] of order.entries()) {
    const next = order[i + 1] ?? source.pick([6, 17, 59]);
    const units = kind === 44 ? 0 : source.between(0, 2);
    const header = new Uint8Array(8 + units * 8);
    header[0] = next;
    header[1] = units;
    if (kind === 44) header[3] = source.pick([0, 1, 8, 9]);
    headers.push(header);
  }
  const rest = source.some(40);
  const length = headers.reduce((sum, header) => sum + header.length, 0) + rest.length;
  const packet = new Uint8Array(40 + length);
  packet.set([0x60, 0, 0, 0, length >>> 8, length & 0xff, order[0] ?? 59, 64]);
  packet.fill(0xfd, 8, 40);
  let at = 40;
  for (const part of [...headers, rest]) {
    packet.set(part, at);
    at += part.length;
  }
  return packet;
};
