// IPv6 fragments against a slow reassembly.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  FRAGMENT_ROOM,
  fragmentCount,
  fragmentLength,
  writeFragments,
} from '../../../native-free/wire/fragment6.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { be16, be32, concat, payload, slowSum } from './packets.ts';

const [SOURCE, DESTINATION] = [0, 16];
const FRAGMENTS = 64;

const cut = (data: Uint8Array, datagram: { ports: [number, number]; trafficClass: number; id: number }) => {
  const count = fragmentCount(data.length);
  const at = FRAGMENTS + count * FRAGMENT_ROOM + 8;
  const memory = new PacketMemory(new ArrayBuffer(at + data.length + 8));
  memory.bytes.set(payload(16, 3), SOURCE);
  memory.bytes.set(payload(16, 5), DESTINATION);
  memory.bytes.set(data, at);
  const [sourcePort, destinationPort] = datagram.ports;
  const { trafficClass, id: identification } = datagram;
  const where = { source: SOURCE, destination: DESTINATION };
  const fields = { ...where, sourcePort, destinationPort, trafficClass, identification };
  expect(writeFragments(memory, fields, at, data.length, FRAGMENTS)).toBe(count);
  return Array.from({ length: count }, (_, i) => {
    const from = FRAGMENTS + i * FRAGMENT_ROOM;
    return memory.bytes.slice(from, from + fragmentLength(i, count, data.length));
  });
};

test('fragments put together are the datagram, each small enough, and its checksum is right', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 65_000 }),
      fc.tuple(fc.integer({ min: 1, max: 0xffff }), fc.integer({ min: 1, max: 0xffff })),
      fc.nat(255),
      fc.integer({ min: 0, max: 0xffff_ffff }),
      (length, ports, trafficClass, id) => {
        const data = payload(length, 1);
        const fragments = cut(data, { ports, trafficClass, id });
        const addresses = concat(payload(16, 3), payload(16, 5));
        const pieces = fragments.map((fragment, i) => {
          expect(fragment.length).toBeLessThanOrEqual(1280);
          const isLast = i === fragments.length - 1;
          const at = fragments.slice(0, i).reduce((sum, one) => sum + one.length - 48, 0);
          expect(at % 8).toBe(0);
          expect(fragment.slice(0, 48)).toEqual(
            concat(
              be32(0x6000_0000 + trafficClass * 0x10_0000),
              be16(fragment.length - 40),
              Uint8Array.of(44, 64),
              addresses,
              Uint8Array.of(17, 0),
              be16(at + (isLast ? 0 : 1)),
              be32(id),
            ),
          );
          return fragment.subarray(48);
        });
        const udp = concat(...pieces);
        expect(udp.slice(0, 6)).toEqual(concat(be16(ports[0]), be16(ports[1]), be16(length + 8)));
        expect(udp.slice(8)).toEqual(data);
        expect(slowSum(concat(addresses, be32(udp.length), be32(17), udp))).toBe(0xffff);
        expect(udp.slice(6, 8)).not.toEqual(be16(0));
      },
    ),
    { numRuns: 50 },
  );
});
