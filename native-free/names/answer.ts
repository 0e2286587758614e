// What one network's name server answers: a function of the query's bytes and of what the node knows. It has authority for
// the network's zone and for the addresses in its pools; everything else is refused, so nobody is served beyond the network
// that he asks on. Not here: sockets, and how often somebody may ask.

import { type Address, addressBytes, familyBits, type Prefix, prefixContains } from '../ipam/prefix.ts';
import {
  BADVERS,
  CLASS_IN,
  MAX_NAME_BYTES,
  NOERROR,
  NXDOMAIN,
  REFUSED,
  TYPE_A,
  TYPE_AAAA,
  TYPE_ANY,
  TYPE_AXFR,
  TYPE_IXFR,
  TYPE_NS,
  TYPE_PTR,
  TYPE_SOA,
} from './dns-constants.ts';
import { bytesOf, canBeZone, zoneOf } from './name.ts';
import type { NameTable } from './name-table.ts';
import { parseQuery, type Query } from './query.ts';
import {
  bareResponse,
  encodeResponse,
  type RecordName,
  type Reply,
  type ResourceRecord,
  type Transport,
} from './response.ts';

/** What is known of a network. */
export interface Zone {
  /** As this node calls it. */
  readonly network: string;
  readonly pools: readonly Prefix[];
  /** Of this node: the zone's own name has them. */
  readonly gateways: readonly Address[];
  readonly names: NameTable;
  /** Of the other networks on this node: names in such a zone that lies in this one are theirs. */
  readonly others?: readonly (readonly string[])[];
}

/** Seconds: a workload that moved is found again after this. */
export const TTL = 5;
/** Seconds: one that is not there yet is asked for again after this. */
export const NEGATIVE_TTL = 2;
/** So many go into one answer; who has more gets others the next time. */
const MAX_ANSWERS = 256;

/** For a name's server nobody writes to. */
const MAILBOX = 'nobody';
const REFRESH = 60;
const RETRY = 10;
const EXPIRE = 600;

/** The response, or undefined: there is none. Borrows `bytes`; never throws. */
export const answer = (bytes: Uint8Array, zone: Zone, transport: Transport): Uint8Array | undefined => {
  const parsed = parseQuery(bytes);
  if (parsed.kind === 'dropped') return undefined;
  if (parsed.kind === 'refused') return bareResponse(parsed.id, parsed.flags, parsed.rcode);
  const { query } = parsed;
  return encodeResponse(query, replyTo(query, zone), transport);
};

const refusal = (rcode: number): Reply => ({ rcode, isAuthoritative: false, answers: [], authorities: [] });

const replyTo = (query: Query, zone: Zone): Reply => {
  const { labels, type } = query;
  if (query.edns !== undefined && query.edns.version !== 0) return refusal(BADVERS);
  if (query.class !== CLASS_IN || type === TYPE_AXFR || type === TYPE_IXFR) return refusal(REFUSED);
  const domain = zoneOf(zone.network);
  if (!canBeZone(domain)) return refusal(REFUSED);
  const isOthers = (zone.others ?? []).some(
    (other) => other.length > domain.length && endsWith(labels, other),
  );
  if (isOthers) return refusal(REFUSED);
  if (endsWith(labels, domain)) return forward(query, zone, labels.length - domain.length);
  if (endsWith(labels, ['in-addr', 'arpa'])) return reverse(query, zone, 4);
  if (endsWith(labels, ['ip6', 'arpa'])) return reverse(query, zone, 6);
  return refusal(REFUSED);
};

const endsWith = (labels: readonly string[], end: readonly string[]): boolean =>
  labels.length >= end.length && end.every((label, i) => labels[labels.length - end.length + i] === label);

/** The zone begins at the question's label `from`. */
const forward = ({ labels, type, id }: Query, zone: Zone, from: number): Reply => {
  const name = labels.slice(0, from).join('.');
  const owner = { labels: [], from: 0 };
  const apex = { labels: [], from };
  if (from === 0 && type === TYPE_SOA) return found([soa(zone, apex, TTL)]);
  if (from === 0 && type === TYPE_NS) return found([{ owner, type: TYPE_NS, ttl: TTL, data: apex }]);
  const addresses = from === 0 ? zone.gateways : zone.names.addresses(name);
  const records = rotated(
    addresses.flatMap((address): ResourceRecord[] => {
      const itsType = address.family === 4 ? TYPE_A : TYPE_AAAA;
      if (type !== itsType && type !== TYPE_ANY) return [];
      return [{ owner, type: itsType, ttl: TTL, data: addressBytes(address) }];
    }),
    id,
  );
  if (records.length > 0) return found(records);
  const exists = from === 0 || addresses.length > 0 || zone.names.isPartOfNames(name);
  return missing(exists ? NOERROR : NXDOMAIN, zone, apex);
};

/** An octet a label in IPv4, half an octet in IPv6 (RFC 1035 3.5, RFC 3596 2.5), the last one first. */
const reverse = ({ labels, type, id }: Query, zone: Zone, family: 4 | 6): Reply => {
  const bits = family === 4 ? 8 : 4;
  const full = familyBits(family) / bits;
  const parts = labels.slice(0, -2).reverse();
  for (const pool of zone.pools) {
    if (pool.family !== family) continue;
    // The zones that lie wholly in the pool.
    const depth = Math.ceil(pool.length / bits);
    const start = numberOf(parts.slice(0, depth), family);
    if (parts.length < depth || start === undefined) continue;
    if (!prefixContains(pool, { family, value: start << BigInt((full - depth) * bits) })) continue;
    const apex = { labels: [], from: parts.length - depth };
    const value = numberOf(parts, family);
    if (parts.length > full || value === undefined) return missing(NXDOMAIN, zone, apex);
    if (parts.length < full) {
      const isApex = parts.length === depth;
      if (isApex && type === TYPE_SOA) return found([soa(zone, apex, TTL)]);
      return missing(NOERROR, zone, apex);
    }
    const names = namesOf(zone, { family, value });
    if (names.length === 0) return missing(NXDOMAIN, zone, apex);
    if (type !== TYPE_PTR && type !== TYPE_ANY) return missing(NOERROR, zone, apex);
    const owner = { labels: [], from: 0 };
    return found(
      rotated(
        names.map((target) => ({ owner, type: TYPE_PTR, ttl: TTL, data: { labels: target } })),
        id,
      ),
    );
  }
  return refusal(REFUSED);
};

const namesOf = (zone: Zone, address: Address): string[][] => {
  const domain = zoneOf(zone.network);
  const isGateway = zone.gateways.some(
    ({ family, value }) => family === address.family && value === address.value,
  );
  if (isGateway) return [domain];
  return zone.names
    .names(address)
    .map((name) => [...name.split('.'), ...domain])
    .filter((labels) => bytesOf(labels) <= MAX_NAME_BYTES);
};

/** The number that the labels write out; undefined when one is none, or is not written as it ought to be. */
const numberOf = (parts: readonly string[], family: 4 | 6): bigint | undefined => {
  let value = 0n;
  for (const part of parts) {
    if (family === 4) {
      if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
      value = (value << 8n) | BigInt(part);
    } else {
      if (!/^[0-9a-f]$/.test(part)) return undefined;
      value = (value << 4n) | BigInt(`0x${part}`);
    }
  }
  return value;
};

const found = (answers: readonly ResourceRecord[]): Reply => ({
  rcode: NOERROR,
  isAuthoritative: true,
  answers,
  authorities: [],
});

/** There is no such name, or none of that type (RFC 2308): the SOA says how long that holds. */
const missing = (rcode: number, zone: Zone, apex: RecordName): Reply => ({
  rcode,
  isAuthoritative: true,
  answers: [],
  authorities: [soa(zone, apex, NEGATIVE_TTL)],
});

const soa = (zone: Zone, owner: RecordName, ttl: number): ResourceRecord => ({
  owner,
  type: TYPE_SOA,
  ttl,
  data: {
    primary: { labels: zoneOf(zone.network) },
    mailbox: { labels: [MAILBOX, ...zoneOf(zone.network)] },
    numbers: [zone.names.serial, REFRESH, RETRY, EXPIRE, NEGATIVE_TTL],
  },
});

/** Askers take the first: it is another one for each. */
const rotated = <T>(all: readonly T[], id: number): T[] => {
  const start = all.length === 0 ? 0 : id % all.length;
  return [...all.slice(start), ...all.slice(0, start)].slice(0, MAX_ANSWERS);
};
