// What is read of a router's "too big", and that nothing else passes for one.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LONGEST_UNREACHABLE, writeTooBig } from '../../../native-free/wire/icmp.ts';
import { IpHeader } from '../../../native-free/wire/ip.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { parseTooBigV4, parseTooBigV6 } from '../../../native-free/wire/too-big.ts';
import { buildPacket, concat, type Flow, flowArbitrary } from './packets.ts';

/** A transport message with that receiver index. */
const message = (receiver: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 4, true);
  view.setUint32(4, receiver, true);
  return bytes;
};

/** What a raw socket gives: with its IP header for IPv4, without it for IPv6. */
const answer = (flow: Flow, datagram: Uint8Array, mtu: number): Uint8Array => {
  const packet = buildPacket({ ...flow, protocol: 'udp' }, datagram);
  const memory = new PacketMemory(new ArrayBuffer(LONGEST_UNREACHABLE + packet.length));
  memory.bytes.set(packet, LONGEST_UNREACHABLE);
  const ip = new IpHeader();
  ip.parse(memory, LONGEST_UNREACHABLE, packet.length);
  const length = writeTooBig(memory, ip, mtu, 0);
  return memory.bytes.slice(flow.version === 4 ? 0 : 40, length);
};

const parse = ({ version }: Flow, bytes: Uint8Array) =>
  version === 4 ? parseTooBigV4(bytes) : parseTooBigV6(bytes);

describe('a "too big"', () => {
  it('is read with the ports and the receiver index that it quotes', () => {
    fc.assert(
      fc.property(
        flowArbitrary,
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.integer({ min: 1280, max: 65_535 }),
        fc.integer({ min: 32, max: 1500 }),
        (flow, receiver, mtu, length) => {
          expect(parse(flow, answer(flow, message(receiver, length), mtu))).toEqual({
            mtu,
            receiver,
            sourcePort: flow.sourcePort,
            destinationPort: flow.destinationPort,
          });
        },
      ),
    );
  });

  it('that is cut off, or of another kind, is none', () => {
    fc.assert(
      fc.property(flowArbitrary, fc.nat(200), (flow, length) => {
        const whole = answer(flow, message(7, 64), 1400);
        const least = (flow.version === 4 ? 20 + 8 + 20 : 8 + 40) + 8 + 8;
        const cut = parse(flow, whole.slice(0, length));
        expect(cut === undefined).toBe(Math.min(length, whole.length) < least);
        const icmp = flow.version === 4 ? 20 : 0;
        for (const at of [icmp, icmp + 1]) {
          const other = whole.slice();
          other[at] = (other[at] ?? 0) + 1;
          expect(parse(flow, other)).toBeUndefined();
        }
        expect(parse(flow, answer(flow, message(7, 64).fill(1, 0, 4), 1400))).toBeUndefined();
      }),
    );
  });

  it('of anything else is none, and nothing throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.boolean(), (bytes, isPrefixed) => {
        const v4 = isPrefixed ? concat(Uint8Array.of(0x45), bytes) : bytes;
        const v6 = isPrefixed ? concat(Uint8Array.of(2, 0, 0, 0, 0, 0, 5, 0, 0x60), bytes) : bytes;
        const one = parseTooBigV4(v4);
        const other = parseTooBigV6(v6);
        for (const found of [one, other]) expect(found?.receiver ?? 0).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
