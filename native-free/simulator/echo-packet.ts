// The packets that simulated pods exchange: an IP header that is right in what the data plane reads, and a text that says
// who sent it to whom, when, and on which network, so that whoever gets it can be judged.

import { addressBytes, addressFromBytes, formatAddress, parseAddress } from '../ipam/prefix.ts';
import {
  IPV4_DESTINATION_OFFSET,
  IPV4_HEADER_LENGTH,
  IPV4_PROTOCOL_OFFSET,
  IPV4_SOURCE_OFFSET,
  IPV4_TOTAL_LENGTH_OFFSET,
  IPV4_TTL_OFFSET,
  IPV6_DESTINATION_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_HOP_LIMIT_OFFSET,
  IPV6_NEXT_HEADER_OFFSET,
  IPV6_PAYLOAD_LENGTH_OFFSET,
  IPV6_SOURCE_OFFSET,
} from '../wire/ip.ts';

export interface Echo {
  readonly kind: 'request' | 'reply';
  readonly network: string;
  readonly from: string;
  readonly to: string;
  readonly fromAddress: string;
  readonly toAddress: string;
  /** When the request was sent. */
  readonly at: number;
}

/** For experiments (RFC 3692). */
const PROTOCOL = 253;
const HOPS = 64;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const echoPacket = (echo: Echo): Uint8Array => {
  const payload = encoder.encode(JSON.stringify(echo));
  const isV6 = echo.fromAddress.includes(':');
  const header = isV6 ? IPV6_HEADER_LENGTH : IPV4_HEADER_LENGTH;
  const bytes = new Uint8Array(header + payload.length);
  const view = new DataView(bytes.buffer);
  if (isV6) {
    view.setUint8(0, 0x60);
    view.setUint16(IPV6_PAYLOAD_LENGTH_OFFSET, payload.length);
    view.setUint8(IPV6_NEXT_HEADER_OFFSET, PROTOCOL);
    view.setUint8(IPV6_HOP_LIMIT_OFFSET, HOPS);
  } else {
    view.setUint8(0, 0x45);
    view.setUint16(IPV4_TOTAL_LENGTH_OFFSET, bytes.length);
    view.setUint8(IPV4_TTL_OFFSET, HOPS);
    view.setUint8(IPV4_PROTOCOL_OFFSET, PROTOCOL);
  }
  bytes.set(addressBytes(parseAddress(echo.fromAddress)), isV6 ? IPV6_SOURCE_OFFSET : IPV4_SOURCE_OFFSET);
  bytes.set(
    addressBytes(parseAddress(echo.toAddress)),
    isV6 ? IPV6_DESTINATION_OFFSET : IPV4_DESTINATION_OFFSET,
  );
  bytes.set(payload, header);
  return bytes;
};

/** A packet that came out of a network. Borrows. */
export const readEcho = (
  packet: Uint8Array,
): { readonly echo: Echo; readonly source: string; readonly destination: string } => {
  const isV6 = (packet[0] ?? 0) >>> 4 === 6;
  const [source, destination, length] = isV6
    ? [IPV6_SOURCE_OFFSET, IPV6_DESTINATION_OFFSET, 16]
    : [IPV4_SOURCE_OFFSET, IPV4_DESTINATION_OFFSET, 4];
  const at = (offset: number) => formatAddress(addressFromBytes(packet.subarray(offset, offset + length)));
  const header = isV6 ? IPV6_HEADER_LENGTH : IPV4_HEADER_LENGTH;
  const echo: Echo = JSON.parse(decoder.decode(packet.subarray(header)));
  return { echo, source: at(source), destination: at(destination) };
};
