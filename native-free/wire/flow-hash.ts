// Which of several queues a packet goes by: a number that all packets of a flow share, in either version of IP. Not secret, and
// not even; fragments and what has no ports go by their addresses alone.

import {
  IPV4_PROTOCOL_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_NEXT_HEADER_OFFSET,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from './ip.ts';

const IPV4_FLAGS_OFFSET = 6;
/** More fragments, and the offset. */
const IPV4_FRAGMENT_BITS = 0x3fff;
const IPV4_SOURCE_OFFSET = 12;
/** The last word of either address: that of hosts in one network differs there. */
const IPV6_SOURCE_END_OFFSET = 20;
const IPV6_DESTINATION_END_OFFSET = 36;

/** Of the packet at `at`, of whose header all is there. Unsigned. */
export const flowHash = (view: DataView, at: number): number => {
  const first = view.getUint8(at);
  if (first >>> 4 === 6) {
    const addresses =
      view.getInt32(at + IPV6_SOURCE_END_OFFSET) ^ view.getInt32(at + IPV6_DESTINATION_END_OFFSET);
    const protocol = view.getUint8(at + IPV6_NEXT_HEADER_OFFSET);
    return mix(hasPorts(protocol) ? addresses ^ view.getInt32(at + IPV6_HEADER_LENGTH) : addresses);
  }
  const addresses = view.getInt32(at + IPV4_SOURCE_OFFSET) ^ view.getInt32(at + IPV4_SOURCE_OFFSET + 4);
  const isFragment = (view.getUint16(at + IPV4_FLAGS_OFFSET) & IPV4_FRAGMENT_BITS) !== 0;
  if (isFragment || !hasPorts(view.getUint8(at + IPV4_PROTOCOL_OFFSET))) return mix(addresses);
  return mix(addresses ^ view.getInt32(at + ((first & 0x0f) << 2)));
};

const hasPorts = (protocol: number): boolean => protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP;

const mix = (value: number): number => {
  const hash = Math.imul(value ^ (value >>> 16), 0x45d9f3b);
  return (hash ^ (hash >>> 15)) >>> 0;
};
