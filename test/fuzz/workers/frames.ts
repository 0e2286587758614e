// Frames as they are written to a TUN, taken apart into the packets that they stand for, flow by flow.

import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { Segmenter } from '../../../native-free/wire/segment.ts';
import { mustEqual } from '../target.ts';

const VNET = 10;
const NO_MTU = 65_535;

/** An error that the datapath itself writes, about a packet that has no way out. */
const isIcmpError = (frame: Uint8Array): boolean => {
  const version = (frame[VNET] ?? 0) >> 4;
  return version === 4 ? frame[VNET + 9] === 1 : version === 6 && frame[VNET + 6] === 58;
};

interface Cut {
  readonly bytes: Uint8Array;
  readonly isOfSuperPacket: boolean;
}

const cut = (frame: Uint8Array): Cut[] => {
  const isSuper = (frame[1] ?? 0) !== 0;
  if (!isSuper) {
    mustEqual(frame[0], 0, 'the flags of a plain packet');
    return [{ bytes: frame.slice(VNET), isOfSuperPacket: false }];
  }
  const memory = new PacketMemory(new ArrayBuffer(frame.length + 16));
  memory.bytes.set(frame);
  const segmenter = new Segmenter(memory);
  mustEqual(segmenter.begin(0, frame.length, NO_MTU), undefined, 'what was written is a super-packet');
  const packets: Cut[] = [];
  while (segmenter.next())
    packets.push({
      bytes: memory.bytes.slice(segmenter.offset, segmenter.offset + segmenter.length),
      isOfSuperPacket: true,
    });
  return packets;
};

const ours = (frames: readonly Uint8Array[]): Uint8Array[] => frames.filter((frame) => !isIcmpError(frame));

export const countPackets = (frames: readonly Uint8Array[]): number =>
  ours(frames).reduce((count, frame) => count + cut(frame).length, 0);

/**
 * By flow, each in its order: flows that come together may overtake each other. Where fragmenting is forbidden the
 * identification means nothing (RFC 6864), and whoever cuts a super-packet counts it up.
 */
export const packetsOf = (frames: readonly Uint8Array[]): Record<string, string[]> => {
  const flows: Record<string, string[]> = {};
  for (const frame of ours(frames))
    for (const { bytes } of cut(frame)) {
      const isV4 = (bytes[0] ?? 0) >> 4 === 4;
      const copy = bytes.slice();
      if (isV4 && ((copy[6] ?? 0) & 0x40) !== 0) copy.fill(0, 4, 6).fill(0, 10, 12);
      const at = isV4 ? 12 : 8;
      const name = `${bytes[isV4 ? 9 : 6]} ${hex(bytes.subarray(at, isV4 ? 24 : 44))}`;
      flows[name] = [...(flows[name] ?? []), hex(copy)];
    }
  return Object.fromEntries(Object.entries(flows).sort(([a], [b]) => (a < b ? -1 : 1)));
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
