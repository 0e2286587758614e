import fc from 'fast-check';
import { expect, test } from 'vitest';
import { flowHash } from '../../../native-free/wire/flow-hash.ts';

interface Flow {
  readonly isV6: boolean;
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  readonly ports: number;
}

const TCP = 6;
const UDP = 17;
const ICMP = 1;

/** A header of that flow, of which `rest` decides all else; IPv4 has `options` words of options. */
const header = (flow: Flow, rest: number, options = 0, fragment = 0): DataView => {
  const view = new DataView(new ArrayBuffer(128));
  for (let i = 0; i < 128; i++) view.setUint8(i, rest + i);
  if (flow.isV6) {
    view.setUint8(0, 0x60 | (rest & 0x0f));
    view.setUint8(6, flow.protocol);
    view.setUint32(8, 0xfd00_0000);
    view.setUint32(20, flow.source);
    view.setUint32(36, flow.destination);
    view.setUint32(40, flow.ports);
    return view;
  }
  view.setUint8(0, 0x45 + options);
  view.setUint8(9, flow.protocol);
  view.setUint16(6, fragment);
  view.setUint32(12, flow.source);
  view.setUint32(16, flow.destination);
  view.setUint32(20 + options * 4, flow.ports);
  return view;
};

const word = fc.integer({ min: 0, max: 0xffff_ffff });
const anyFlow = fc.record({
  isV6: fc.boolean(),
  protocol: fc.constantFrom(TCP, UDP, ICMP, 253),
  source: word,
  destination: word,
  ports: word,
});
const byte = fc.integer({ min: 0, max: 255 });

test('all packets of a flow have one hash, whatever else is in them', () => {
  fc.assert(
    fc.property(anyFlow, byte, byte, fc.integer({ min: 0, max: 10 }), (flow, one, other, options) => {
      expect(flowHash(header(flow, one), 0)).toBe(flowHash(header(flow, other, options), 0));
    }),
  );
});

test('fragments of a packet go together, also those without ports', () => {
  fc.assert(
    fc.property(anyFlow, word, byte, (flow, otherWord, rest) => {
      const first = header({ ...flow, isV6: false }, rest, 0, 0x2000);
      const later = header({ ...flow, isV6: false, ports: otherWord }, rest, 0, 0x00b9);
      expect(flowHash(first, 0)).toBe(flowHash(later, 0));
    }),
  );
});

test.each([
  ['IPv4', false],
  ['IPv6', true],
])('connections between two hosts spread over eight queues: %s', (_, isV6) => {
  const counts = new Array<number>(8).fill(0);
  for (let port = 32_768; port < 32_768 + 800; port++) {
    const ports = port * 0x1_0000 + 443;
    const queue = flowHash(header({ isV6, protocol: TCP, source: 1, destination: 2, ports }, 0), 0) & 7;
    counts[queue] = (counts[queue] ?? 0) + 1;
  }
  for (const count of counts) expect(count).toBeGreaterThan(50);
});
