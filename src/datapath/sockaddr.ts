// struct sockaddr_in and sockaddr_in6 to and from an endpoint, and a path: a sockaddr and the address of ours that belongs to
// it. Not for the hot path: there, the bytes are copied.
//
//    0 family (u16, host order)   2 port (big-endian)
//    v4:  4 address                                        16 B in all
//    v6:  4 flow info   8 address   24 scope id (u32)      28 B in all
//    path: 28 our own address, 4 or 16 B; zero: any        44 B in all

import type { Endpoint } from '../../native-free/device/data-plane.ts';
import {
  type Address,
  addressBytes,
  addressFromBytes,
  formatAddress,
  parseAddress,
} from '../../native-free/ipam/prefix.ts';
import { addressOf, ifIndexToName, ifNameToIndex } from '../ffi/libc.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCKADDR_IN_LENGTH = 16;
export const SOCKADDR_IN6_LENGTH = 28;
/** Room for either. */
export const SOCKADDR_LENGTH = 28;

/** Of a path, and where in it our own address is. */
export const PATH_LENGTH = 44;
export const PATH_LOCAL = 28;

const FAMILY = 0;
const PORT = 2;
const V4_ADDRESS = 4;
const V6_ADDRESS = 8;
const V6_SCOPE = 24;
const IF_NAMESIZE = 16;

/** How many bytes of it count, by its family; 0 when it is no address at all. */
export const sockaddrLength = (family: number): number => {
  if (family === AF_INET) return SOCKADDR_IN_LENGTH;
  return family === AF_INET6 ? SOCKADDR_IN6_LENGTH : 0;
};

/** 28 bytes; zero past the end of a v4 one. Interface names in zones are those of the calling thread's namespace. */
export const encodeSockaddr = (endpoint: Endpoint): Uint8Array => {
  const [text = '', zone] = endpoint.address.split('%');
  const address = parseAddress(text);
  const bytes = new Uint8Array(SOCKADDR_LENGTH);
  const view = new DataView(bytes.buffer);
  view.setUint16(FAMILY, address.family === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(PORT, endpoint.port);
  bytes.set(addressBytes(address), address.family === 4 ? V4_ADDRESS : V6_ADDRESS);
  if (zone !== undefined) view.setUint32(V6_SCOPE, zoneIndex(zone), true);
  return bytes;
};

/** Borrows `bytes`, at least 28 of them. Undefined when the family is neither. */
export const decodeSockaddr = (bytes: Uint8Array): Endpoint | undefined => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SOCKADDR_LENGTH);
  const family = view.getUint16(FAMILY, true);
  const port = view.getUint16(PORT);
  if (family === AF_INET) return { address: format(bytes, V4_ADDRESS, 4), port };
  if (family !== AF_INET6) return undefined;
  const scope = view.getUint32(V6_SCOPE, true);
  const address = format(bytes, V6_ADDRESS, 16);
  return { address: scope === 0 ? address : `${address}%${zoneName(scope)}`, port };
};

/** 44 bytes. */
export const encodePath = (endpoint: Endpoint): Uint8Array => {
  const path = new Uint8Array(PATH_LENGTH);
  path.set(encodeSockaddr(endpoint));
  if (endpoint.local !== undefined) path.set(addressBytes(parseAddress(endpoint.local)), PATH_LOCAL);
  return path;
};

/** Borrows `bytes`, at least 44 of them. Undefined when the family is neither. */
export const decodePath = (bytes: Uint8Array): Endpoint | undefined => {
  const endpoint = decodeSockaddr(bytes);
  const local = bytes.subarray(PATH_LOCAL, PATH_LENGTH);
  if (endpoint === undefined || local.every((byte) => byte === 0)) return endpoint;
  return { ...endpoint, local: format(local, 0, endpoint.address.includes(':') ? 16 : 4) };
};

const format = (bytes: Uint8Array, offset: number, length: number): string => {
  const address: Address = addressFromBytes(bytes.subarray(offset, offset + length));
  return formatAddress(address);
};

const zoneIndex = (zone: string): number => (/^\d+$/.test(zone) ? Number(zone) : ifNameToIndex(zone));

const zoneName = (index: number): string => {
  const name = new Uint8Array(new SharedArrayBuffer(IF_NAMESIZE));
  if (ifIndexToName(index, addressOf(name)) === 0) return String(index);
  return new TextDecoder().decode(name.slice(0, name.indexOf(0)));
};
