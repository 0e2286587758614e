// What a node signs about the names of its workloads on one network: whatever others answer for them rests on this, so a
// registry can withhold a name and not point it elsewhere. Signed as records are (registry/record.ts), under a context of
// its own, in one canonical form. That the addresses are the node's own is for the reader to check, by its record.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { type Address, formatAddress, parseAddress } from '../ipam/prefix.ts';
import { check, name as labelSchema, MAX_ATTACHMENTS } from '../registry/model.ts';
import {
  isOversized,
  isSignedFor,
  MAX_SEQUENCE_AHEAD_MS,
  type NamedNetwork,
  type SignedRecord,
  signedNetwork,
  signingInput,
  type VerifyRecord,
  writtenHome,
} from '../registry/record.ts';
import { isTrustDomain } from '../registry/spiffe-id.ts';
import { isName, MAX_NAME_LENGTH } from './name.ts';
import type { NamedAddresses } from './name-table.ts';

export const NAMES_CONTEXT = 'vl3 node names v1';
export const MAX_NAMES_BYTES = 262_144;
/** Of one name on one node. */
export const MAX_NAME_ADDRESSES = 64;

const time = z.number().int().min(0).max(8_640_000_000_000_000);

const head = {
  trustDomain: z.string().refine(isTrustDomain, 'is not a trust domain'),
  network: labelSchema,
  networkUid: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  /** Whose the network is, where it is not of the node's own domain. */
  home: z.string().refine(isTrustDomain, 'is not a trust domain').optional(),
  node: labelSchema,
  /** Grows with each of this node and network; of two the higher one holds. */
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  /** Milliseconds since the Unix epoch: they hold in [notBefore, notAfter). */
  notBefore: time,
  notAfter: time,
};

const schema = z.strictObject({
  ...head,
  /** A name, and its addresses; names and addresses ascend, none comes twice. */
  names: z
    .array(
      z.tuple([
        z.string().max(MAX_NAME_LENGTH).refine(isName, 'is no name'),
        z.array(z.string().max(39)).min(1).max(MAX_NAME_ADDRESSES),
      ]),
    )
    .max(MAX_ATTACHMENTS),
});
type Document = z.infer<typeof schema>;

export interface NodeNames extends Omit<Document, 'names'> {
  readonly names: readonly NamedAddresses[];
}

export type DecodedNames =
  | { readonly kind: 'accepted'; readonly names: NodeNames }
  | { readonly kind: 'refused'; readonly message: string };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What goes into one document: of what does not fit, the names that come last are left out. Says how many were. */
export const fitted = (
  names: readonly NamedAddresses[],
): { readonly names: NamedAddresses[]; readonly left: number } => {
  const merged = new Map<string, Map<string, Address>>();
  for (const { name, addresses } of names) {
    const all = merged.get(name) ?? new Map<string, Address>();
    for (const address of addresses) all.set(formatAddress(address), address);
    merged.set(name, all);
  }
  const sorted = [...merged].sort(([a], [b]) => ascending(a, b));
  const kept: NamedAddresses[] = [];
  let room = MAX_NAMES_BYTES - HEAD_BYTES;
  for (const [name, addresses] of sorted.slice(0, MAX_ATTACHMENTS)) {
    const few = [...addresses.entries()].sort(([a], [b]) => ascending(a, b)).slice(0, MAX_NAME_ADDRESSES);
    room -= JSON.stringify([name, few.map(([text]) => text)]).length + 1;
    if (room < 0) break;
    kept.push({ name, addresses: few.map(([, address]) => address) });
  }
  return { names: kept, left: sorted.length - kept.length };
};

/** More than all but the names takes. */
const HEAD_BYTES = 2048;

/** The one canonical form: JSON with a fixed order of keys. `names` is what `fitted` gave. Throws Vl3Error('invalid-argument'). */
export const encodeNames = (names: NodeNames): Uint8Array => {
  const texts = names.names.map(({ name, addresses }): [string, string[]] => [
    name,
    addresses.map(formatAddress),
  ]);
  const document = check(schema, { ...names, names: texts }, 'names');
  const bytes = encoder.encode(canonical(document));
  if (bytes.length > MAX_NAMES_BYTES)
    throw new Vl3Error(
      'invalid-argument',
      `names: they take ${bytes.length} bytes, more than ${MAX_NAMES_BYTES}`,
    );
  return bytes;
};

const canonical = (document: Document): string =>
  JSON.stringify({
    trustDomain: document.trustDomain,
    network: document.network,
    networkUid: document.networkUid,
    ...writtenHome(document),
    node: document.node,
    sequence: document.sequence,
    notBefore: document.notBefore,
    notAfter: document.notAfter,
    names: document.names,
  });

/**
 * The names, if signature, signer, network and validity at `now` (unix ms) all hold. Borrows `signed`; never throws.
 */
export const decodeVerifiedNames = (
  signed: SignedRecord,
  verify: VerifyRecord,
  now: number,
  expected: NamedNetwork & { readonly node: string },
): DecodedNames => {
  if (isOversized(signed, MAX_NAMES_BYTES))
    return refuse('the names, their signature or its chain are too large');
  const { record: bytes, signature, certificateChain } = signed;
  const signer = verify(certificateChain, signingInput(NAMES_CONTEXT, bytes), signature, now);
  if (signer === undefined)
    return refuse('the signature does not verify against the trust bundle at this time');
  const names = parse(bytes);
  const who = `node "${signer.node}" of ${signer.trustDomain}`;
  if (names === undefined) return refuse(`${who} signed names that are not in canonical form`);
  if (names.node !== signer.node || names.trustDomain !== signer.trustDomain || names.node !== expected.node)
    return refuse(`${who} signed names of node "${names.node}" of ${names.trustDomain}`);
  if (!isSignedFor(names, expected)) return refuse(`${who} signed them for ${signedNetwork(names)}`);
  if (names.sequence > now + MAX_SEQUENCE_AHEAD_MS)
    return refuse(`${who}: their sequence is of a time far ahead`);
  if (now < names.notBefore || now >= names.notAfter)
    return refuse(`${who}: the names are not valid at this time`);
  if (names.notAfter > signer.notAfter)
    return refuse(`${who}: the names would outlive the SVID that signed them`);
  return { kind: 'accepted', names };
};

/** Undefined unless encoding gives the same bytes again. */
const parse = (bytes: Uint8Array): NodeNames | undefined => {
  try {
    const text = decoder.decode(bytes);
    const document = schema.parse(JSON.parse(text));
    if (canonical(document) !== text) return undefined;
    const isOrdered = document.names.every(
      ([name, addresses], i) =>
        ascending(document.names[i - 1]?.[0] ?? '', name) < 0 &&
        addresses.every((address, j) => ascending(addresses[j - 1] ?? '', address) < 0),
    );
    if (!isOrdered) return undefined;
    const names = document.names.map(([name, texts]) => ({ name, addresses: texts.map(canonicalAddress) }));
    return { ...document, names };
  } catch {
    return undefined;
  }
};

const canonicalAddress = (text: string): Address => {
  const address = parseAddress(text);
  if (formatAddress(address) !== text) throw new Vl3Error('invalid-argument', 'an address is not canonical');
  return address;
};

const ascending = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const refuse = (message: string): DecodedNames => ({ kind: 'refused', message });
