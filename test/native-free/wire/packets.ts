// Packets built the slow and obvious way, field by field, as the twin of what wire/ does in place.

import fc from 'fast-check';

export interface Flow {
  readonly version: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  /** Last bytes of the addresses. */
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly trafficClass: number;
  readonly ttl: number;
  readonly identification: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
  /** TCP options, a multiple of four. */
  readonly options: Uint8Array;
}

export const concat = (...parts: Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};

export const be16 = (value: number): Uint8Array => Uint8Array.of((value >>> 8) & 0xff, value & 0xff);
export const be32 = (value: number): Uint8Array => concat(be16(value >>> 16), be16(value & 0xffff));
/** Little-endian, as every machine the tests run on. */
export const le16 = (value: number): Uint8Array => be16(value).reverse();

/** Folded, not complemented. */
export const slowSum = (bytes: Uint8Array): number => {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    total += (bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0);
    while (total > 0xffff) total = (total % 65536) + Math.floor(total / 65536);
  }
  return total;
};

const address = (version: 4 | 6, last: number): Uint8Array =>
  version === 4
    ? Uint8Array.of(10, 60, last >>> 8, last & 0xff)
    : concat(Uint8Array.of(0xfd, 0, 0, 0x60), new Uint8Array(10), be16(last));

export const addresses = (flow: Flow): Uint8Array =>
  concat(address(flow.version, flow.source), address(flow.version, flow.destination));

export const protocolNumber = (flow: Flow): number => (flow.protocol === 'tcp' ? 6 : 17);

export const headerLength = (flow: Flow): number =>
  (flow.version === 4 ? 20 : 40) + (flow.protocol === 'tcp' ? 20 + flow.options.length : 8);

const ipHeader = (flow: Flow, length: number): Uint8Array => {
  const protocol = protocolNumber(flow);
  if (flow.version === 6) {
    const first = (6 << 12) | (flow.trafficClass << 4);
    return concat(
      be16(first),
      be16(0x1234),
      be16(length),
      Uint8Array.of(protocol, flow.ttl),
      addresses(flow),
    );
  }
  const header = concat(
    Uint8Array.of(0x45, flow.trafficClass),
    be16(20 + length),
    be16(flow.identification & 0xffff),
    be16(0x4000),
    Uint8Array.of(flow.ttl, protocol),
    be16(0),
    addresses(flow),
  );
  header.set(be16(~slowSum(header) & 0xffff), 10);
  return header;
};

/** The sum of the pseudo-header, folded. */
export const slowPseudo = (flow: Flow, length: number): number =>
  slowSum(concat(addresses(flow), be32(protocolNumber(flow)), be32(length)));

const transport = (flow: Flow, payload: Uint8Array): Uint8Array =>
  flow.protocol === 'tcp'
    ? concat(
        be16(flow.sourcePort),
        be16(flow.destinationPort),
        be32(flow.sequence),
        be32(flow.acknowledgment),
        Uint8Array.of(((20 + flow.options.length) / 4) << 4, flow.flags),
        be16(flow.window),
        be16(0),
        be16(0),
        flow.options,
        payload,
      )
    : concat(be16(flow.sourcePort), be16(flow.destinationPort), be16(8 + payload.length), be16(0), payload);

const checksumAt = (flow: Flow): number => (flow.protocol === 'tcp' ? 16 : 6);

/** A packet with its checksums complete. */
export const buildPacket = (flow: Flow, payload: Uint8Array): Uint8Array => {
  const segment = transport(flow, payload);
  const pseudo = concat(addresses(flow), be32(protocolNumber(flow)), be32(segment.length));
  let checksum = ~slowSum(concat(pseudo, segment)) & 0xffff;
  if (checksum === 0 && flow.protocol === 'udp') checksum = 0xffff;
  segment.set(be16(checksum), checksumAt(flow));
  return concat(ipHeader(flow, segment.length), segment);
};

/** virtio_net_hdr and packet as a TUN hands them over, the checksum left to complete. */
export const buildSuperPacket = (flow: Flow, payload: Uint8Array, gsoSize: number): Uint8Array => {
  const segment = transport(flow, payload);
  segment.set(be16(slowPseudo(flow, segment.length)), checksumAt(flow));
  const ip = ipHeader(flow, segment.length);
  const gsoType =
    gsoSize === 0
      ? 0
      : flow.protocol === 'udp'
        ? 5
        : (flow.version === 4 ? 1 : 4) | ((flow.flags & 0x80) !== 0 ? 0x80 : 0);
  return concat(
    Uint8Array.of(1, gsoType),
    le16(headerLength(flow)),
    le16(gsoSize),
    le16(ip.length),
    le16(checksumAt(flow)),
    ip,
    segment,
  );
};

/** What the super-packet must become on the wire. */
export const buildSegments = (flow: Flow, payload: Uint8Array, gsoSize: number): Uint8Array[] => {
  const segments: Uint8Array[] = [];
  const count = Math.max(1, Math.ceil(payload.length / gsoSize));
  for (let i = 0; i < count; i++) {
    const isLast = i === count - 1;
    let flags = flow.flags;
    if (!isLast) flags &= ~0x09;
    if (i > 0) flags &= ~0x80;
    segments.push(
      buildPacket(
        {
          ...flow,
          flags,
          identification: flow.identification + i,
          sequence: (flow.sequence + i * gsoSize) >>> 0,
        },
        payload.slice(i * gsoSize, (i + 1) * gsoSize),
      ),
    );
  }
  return segments;
};

const uint16 = fc.integer({ min: 0, max: 0xffff });
const byte = fc.integer({ min: 0, max: 0xff });

export const flowArbitrary: fc.Arbitrary<Flow> = fc.record({
  version: fc.constantFrom<4 | 6>(4, 6),
  protocol: fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
  source: uint16,
  destination: uint16,
  sourcePort: uint16,
  destinationPort: uint16,
  trafficClass: byte,
  ttl: fc.integer({ min: 1, max: 255 }),
  identification: uint16,
  sequence: fc.integer({ min: 0, max: 0xffffffff }),
  acknowledgment: fc.integer({ min: 0, max: 0xffffffff }),
  flags: byte,
  window: uint16,
  options: fc
    .integer({ min: 0, max: 10 })
    .chain((words) => fc.uint8Array({ minLength: words * 4, maxLength: words * 4 })),
});

/** A payload that is cheap to shrink: a length and a seed. */
export const payload = (length: number, seed: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state & 0xff;
  }
  return bytes;
};
