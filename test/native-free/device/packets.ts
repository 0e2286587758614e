// IP packets for tests: a header that is right in what the data plane reads, and a text as payload.

import { addressBytes, parseAddress } from '../../../native-free/ipam/prefix.ts';

const IPV4_LENGTH = 20;
const IPV6_LENGTH = 40;

export const packet = (source: string, destination: string, text: string): Uint8Array => {
  const payload = new TextEncoder().encode(text);
  return source.includes(':')
    ? packetV6(source, destination, payload)
    : packetV4(source, destination, payload);
};

const packetV4 = (source: string, destination: string, payload: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(IPV4_LENGTH + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x45);
  view.setUint16(2, bytes.length);
  view.setUint8(8, 64);
  view.setUint8(9, 253);
  bytes.set(addressBytes(parseAddress(source)), 12);
  bytes.set(addressBytes(parseAddress(destination)), 16);
  bytes.set(payload, IPV4_LENGTH);
  return bytes;
};

const packetV6 = (source: string, destination: string, payload: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(IPV6_LENGTH + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x60);
  view.setUint16(4, payload.length);
  view.setUint8(6, 253);
  view.setUint8(7, 64);
  bytes.set(addressBytes(parseAddress(source)), 8);
  bytes.set(addressBytes(parseAddress(destination)), 24);
  bytes.set(payload, IPV6_LENGTH);
  return bytes;
};

export const payloadOf = (bytes: Uint8Array): string =>
  new TextDecoder().decode(bytes.subarray((bytes[0] ?? 0) >>> 4 === 6 ? IPV6_LENGTH : IPV4_LENGTH));
