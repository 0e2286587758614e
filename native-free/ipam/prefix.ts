// Addresses and prefixes of both families as values: a family and an unsigned integer. Parsing is strict
// (canonical network addresses only), formatting is RFC 5952. Not here: who holds what (pool, allocator).

import { Address4, Address6 } from 'ip-address';
import { Vl3Error } from '../error.ts';

export type Family = 4 | 6;

export interface Address {
  readonly family: Family;
  /** 32 or 128 bits, network order read as one unsigned integer. */
  readonly value: bigint;
}

export interface Prefix {
  readonly family: Family;
  /** The network address; bits past `length` are zero. */
  readonly value: bigint;
  readonly length: number;
}

export const familyBits = (family: Family): 32 | 128 => (family === 4 ? 32 : 128);

/** How many addresses the prefix holds. */
export const prefixSize = (prefix: Prefix): bigint => 1n << BigInt(familyBits(prefix.family) - prefix.length);

/** Parses "10.1.2.3" or "fd00::1". Throws Vl3Error('invalid-argument'). */
export const parseAddress = (text: string): Address => {
  if (text.includes(':')) {
    if (Address6.isValid(text) && !/[%/]/.test(text))
      return { family: 6, value: new Address6(text).bigInt() };
  } else if (/^\d{1,3}(\.\d{1,3}){3}$/.test(text) && Address4.isValid(text)) {
    return { family: 4, value: new Address4(text).bigInt() };
  }
  throw new Vl3Error('invalid-argument', `"${text}" is not an IP address: write it like 10.1.2.3 or fd00::1`);
};

export const formatAddress = (address: Address): string =>
  address.family === 4
    ? Address4.fromBigInt(address.value).correctForm()
    : Address6.fromBigInt(address.value).correctForm();

/** Parses "10.1.0.0/16"; host bits must be zero. Throws Vl3Error('invalid-argument'). */
export const parsePrefix = (text: string): Prefix => {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  if (match?.[1] === undefined) {
    throw new Vl3Error(
      'invalid-argument',
      `"${text}" is not a prefix: write it like 10.1.0.0/16 or fd00:1::/48`,
    );
  }
  const { family, value } = parseAddress(match[1]);
  const length = Number(match[2]);
  const bits = familyBits(family);
  if (length > bits) throw new Vl3Error('invalid-argument', `"${text}" has a length past ${bits}`);
  const network = prefixAround({ family, value }, length).value;
  if (network !== value) {
    const meant = formatPrefix({ family, value: network, length });
    throw new Vl3Error('invalid-argument', `"${text}" has host bits set: did you mean ${meant}?`);
  }
  return { family, value, length };
};

export const formatPrefix = (prefix: Prefix): string => `${formatAddress(prefix)}/${prefix.length}`;

/** The prefix that holds this one address. */
export const hostPrefix = (address: Address): Prefix => ({ ...address, length: familyBits(address.family) });

export const prefixContains = (prefix: Prefix, address: Address): boolean => {
  if (prefix.family !== address.family) return false;
  const host = BigInt(familyBits(prefix.family) - prefix.length);
  return prefix.value >> host === address.value >> host;
};

/** True when `inner` lies wholly inside `outer`. */
export const prefixCovers = (outer: Prefix, inner: Prefix): boolean =>
  outer.length <= inner.length && prefixContains(outer, inner);

export const prefixesOverlap = (a: Prefix, b: Prefix): boolean => prefixCovers(a, b) || prefixCovers(b, a);

/** The prefix of this length that the address is in. */
export const prefixAround = ({ family, value }: Address, length: number): Prefix => {
  const hostBits = BigInt(familyBits(family) - length);
  return { family, value: (value >> hostBits) << hostBits, length };
};

/** 4 or 16 bytes in network order. */
export const addressBytes = (address: Address): Uint8Array => {
  const bytes = new Uint8Array(familyBits(address.family) / 8);
  let rest = address.value;
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
};

/** Reads 4 or 16 bytes in network order; borrows `bytes`. */
export const addressFromBytes = (bytes: Uint8Array): Address => {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return { family: bytes.length === 4 ? 4 : 6, value };
};
