import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IpHeader } from '../../../native-free/wire/ip.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import {
  PATH_PROBE_LENGTH,
  PROBE,
  PROBE_ANSWER,
  pathProbeKind,
  pathProbeSequence,
  writePathProbe,
} from '../../../native-free/wire/path-probe.ts';

const AT = 32;

const write = (length: number, kind: number, sequence: number): PacketMemory => {
  const memory = new PacketMemory(new ArrayBuffer(AT + length + 64));
  memory.bytes.fill(0xaa);
  writePathProbe(memory, AT, length, kind, sequence);
  return memory;
};

const probe = fc.record({
  length: fc.integer({ min: PATH_PROBE_LENGTH, max: 9000 }),
  kind: fc.constantFrom(PROBE, PROBE_ANSWER),
  sequence: fc.integer({ min: 0, max: 0xffff_ffff }),
});

test('what is written is read, and nothing around it is touched', () => {
  fc.assert(
    fc.property(probe, ({ length, kind, sequence }) => {
      const memory = write(length, kind, sequence);
      expect(pathProbeKind(memory, AT, length)).toBe(kind);
      expect(pathProbeSequence(memory, AT)).toBe(sequence);
      expect(memory.bytes.subarray(0, AT).every((byte) => byte === 0xaa)).toBe(true);
      expect(memory.bytes.subarray(AT + length).every((byte) => byte === 0xaa)).toBe(true);
    }),
  );
});

test('a stock peer takes none for an IP packet', () => {
  fc.assert(
    fc.property(probe, ({ length, kind, sequence }) => {
      expect(new IpHeader().parse(write(length, kind, sequence), AT, length)).toBe(
        length < 20 ? 'bad-length' : 'not-ip',
      );
    }),
  );
});

test('no other bytes are taken for one, whatever their length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const memory = new PacketMemory(new ArrayBuffer(64));
      memory.bytes.set(bytes);
      const isMarked = bytes.length >= 16 && [0, 0x76, 0x6c, 0x33].every((byte, i) => bytes[i] === byte);
      fc.pre(!isMarked);
      expect(pathProbeKind(memory, 0, bytes.length)).toBe(0);
    }),
  );
  const memory = write(64, PROBE, 7);
  expect(pathProbeKind(memory, AT, PATH_PROBE_LENGTH - 1)).toBe(0);
  memory.view.setUint32(AT + 4, 3, true);
  expect(pathProbeKind(memory, AT, 64)).toBe(0);
});
