// struct sockaddr_in and sockaddr_in6 to and from an endpoint, and a path: a sockaddr and the address of ours that belongs to
// it. Not for the hot path: there, the bytes are copied. But anyone who sends handshakes has the main thread decode where they
// come from, so that is written out.
//
//    0 family (u16, host order)   2 port (big-endian)
//    v4:  4 address                                        16 B in all
//    v6:  4 flow info   8 address   24 scope id (u32)      28 B in all
//    path: 28 our own address, 4 or 16 B; zero: any        44 B in all

import type { Endpoint } from '../../native-free/device/data-plane.ts';
import { addressBytes, parseAddress } from '../../native-free/ipam/prefix.ts';
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

/** Borrows the 28 bytes at `at`. Undefined when the family is neither. */
export const decodeSockaddr = (bytes: Uint8Array, at = 0): Endpoint | undefined => {
  const family = u16(bytes, at + FAMILY + 1, at + FAMILY);
  const address = formatAddress(bytes, at, family);
  return address === undefined ? undefined : { address, port: u16(bytes, at + PORT, at + PORT + 1) };
};

/** 44 bytes. */
export const encodePath = (endpoint: Endpoint): Uint8Array => {
  const path = new Uint8Array(PATH_LENGTH);
  path.set(encodeSockaddr(endpoint));
  if (endpoint.local !== undefined) path.set(addressBytes(parseAddress(endpoint.local)), PATH_LOCAL);
  return path;
};

/** Borrows the 44 bytes at `at`. Undefined when the family is neither. */
export const decodePath = (bytes: Uint8Array, at = 0): Endpoint | undefined => {
  const family = u16(bytes, at + FAMILY + 1, at + FAMILY);
  const address = formatAddress(bytes, at, family);
  if (address === undefined) return undefined;
  const port = u16(bytes, at + PORT, at + PORT + 1);
  let any = 0;
  for (let i = at + PATH_LOCAL; i < at + PATH_LENGTH; i++) any |= bytes[i] ?? 0;
  if (any === 0) return { address, port };
  const local = at + PATH_LOCAL;
  return { address, port, local: family === AF_INET ? formatV4(bytes, local) : formatV6(bytes, local) };
};

/**
 * The path that was decoded last. Whoever is heard is, as a rule, answered next, and then its path need not be put together
 * out of text again.
 */
export class HeardPath {
  readonly #bytes = new Uint8Array(PATH_LENGTH);
  #endpoint: Endpoint | undefined;

  /** As decodePath. */
  decode(bytes: Uint8Array, at: number): Endpoint | undefined {
    for (let i = 0; i < PATH_LENGTH; i++) this.#bytes[i] = bytes[at + i] ?? 0;
    this.#endpoint = decodePath(this.#bytes);
    return this.#endpoint;
  }

  /** As encodePath; to be read before the next is heard. */
  encode(endpoint: Endpoint): Uint8Array {
    return endpoint === this.#endpoint ? this.#bytes : encodePath(endpoint);
  }
}

const u16 = (bytes: Uint8Array, high: number, low: number): number =>
  ((bytes[high] ?? 0) << 8) | (bytes[low] ?? 0);

/** Of the sockaddr at `at`, with its zone. */
const formatAddress = (bytes: Uint8Array, at: number, family: number): string | undefined => {
  if (family === AF_INET) return formatV4(bytes, at + V4_ADDRESS);
  if (family !== AF_INET6) return undefined;
  const address = formatV6(bytes, at + V6_ADDRESS);
  const scope =
    u16(bytes, at + V6_SCOPE + 1, at + V6_SCOPE) +
    u16(bytes, at + V6_SCOPE + 3, at + V6_SCOPE + 2) * 0x1_0000;
  return scope === 0 ? address : `${address}%${zoneName(scope)}`;
};

const formatV4 = (bytes: Uint8Array, at: number): string =>
  `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;

/** As RFC 5952 has it: the first of the longest runs of zeros, of two groups at least, is left out. */
const formatV6 = (bytes: Uint8Array, at: number): string => {
  let [from, to] = [8, 8];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && u16(bytes, at + end * 2, at + end * 2 + 1) === 0) end++;
    if (end - i > Math.max(1, to - from)) [from, to] = [i, end];
    i = Math.max(i, end - 1);
  }
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (i === from) {
      text += '::';
      i = to - 1;
    } else {
      if (i > 0 && i !== to) text += ':';
      text += u16(bytes, at + i * 2, at + i * 2 + 1).toString(16);
    }
  }
  return text;
};

const zoneIndex = (zone: string): number => (/^\d+$/.test(zone) ? Number(zone) : ifNameToIndex(zone));

const zoneName = (index: number): string => {
  const name = new Uint8Array(new SharedArrayBuffer(IF_NAMESIZE));
  if (ifIndexToName(index, addressOf(name)) === 0) return String(index);
  return new TextDecoder().decode(name.slice(0, name.indexOf(0)));
};
