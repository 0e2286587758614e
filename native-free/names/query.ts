// A DNS query as it comes from anybody: one question, maybe an OPT record, and nothing else is understood (RFC 1035 4.1,
// RFC 6891 6.1, RFC 9619). Whatever cannot be answered safely is dropped; what can, is answered by an error.
//
//    0 id   2 flags: QR(1) opcode(4) AA TC RD RA Z AD CD rcode(4)   4 questions   6 answers   8 authorities   10 additional
//   12 question: labels (length, bytes) up to an empty one, type, class
//      OPT: 00, type 41, UDP size (as class), extended rcode, version, flags (as ttl), length, options

import { FORMERR, MAX_LABEL_BYTES, MAX_NAME_BYTES, NOTIMP, TYPE_OPT } from './dns-constants.ts';

export const HEADER_BYTES = 12;
export const FLAGS = 2;
export const QUESTIONS = 4;
export const ANSWERS = 6;
export const AUTHORITIES = 8;
export const ADDITIONAL = 10;

export const QR = 0x8000;
export const OPCODE = 0x7800;
export const AA = 0x0400;
export const TC = 0x0200;
export const RD = 0x0100;

/** Type, class, ttl, length of a record, after its name. */
const RECORD_FIXED = 10;
/** Of a query; longer ones are made to cost. */
const MAX_QUERY_BYTES = 1500;
/** OPT, and a signature that is not looked at. */
const MAX_ADDITIONAL = 2;

export interface Edns {
  /** What the asker takes by UDP. */
  readonly udpBytes: number;
  readonly version: number;
}

export interface Query {
  readonly id: number;
  /** As in the query: opcode and RD go into the response. */
  readonly flags: number;
  /** The question's bytes as they came, so that the case of each letter comes back (0x20). Borrowed. */
  readonly question: Uint8Array;
  /** The name's labels, in lower case; a byte that is not printable ASCII without dot is "\ddd". */
  readonly labels: readonly string[];
  readonly type: number;
  readonly class: number;
  readonly edns: Edns | undefined;
}

export type ParsedQuery =
  | { readonly kind: 'query'; readonly query: Query }
  /** Answered by the header alone. */
  | { readonly kind: 'refused'; readonly id: number; readonly flags: number; readonly rcode: number }
  /** Not answered: a response, or too short to say to whom. */
  | { readonly kind: 'dropped' };

/** Borrows `bytes`, also in its result. Never throws. */
export const parseQuery = (bytes: Uint8Array): ParsedQuery => {
  if (bytes.length < HEADER_BYTES) return { kind: 'dropped' };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const id = view.getUint16(0);
  const flags = view.getUint16(FLAGS);
  // An answer to a response is how two servers talk for ever.
  if ((flags & QR) !== 0) return { kind: 'dropped' };
  const refuse = (rcode: number): ParsedQuery => ({ kind: 'refused', id, flags, rcode });
  if ((flags & OPCODE) !== 0) return refuse(NOTIMP);
  const additional = view.getUint16(ADDITIONAL);
  const hasOther = view.getUint16(ANSWERS) !== 0 || view.getUint16(AUTHORITIES) !== 0 || (flags & TC) !== 0;
  if (view.getUint16(QUESTIONS) !== 1 || hasOther || additional > MAX_ADDITIONAL) return refuse(FORMERR);
  if (bytes.length > MAX_QUERY_BYTES) return refuse(FORMERR);
  const name = parseName(bytes, HEADER_BYTES);
  if (name === undefined || name.end + 4 > bytes.length) return refuse(FORMERR);
  const end = name.end + 4;
  const edns = parseAdditional(bytes, view, end, additional);
  if (edns === 'malformed') return refuse(FORMERR);
  const question = bytes.subarray(HEADER_BYTES, end);
  const type = view.getUint16(name.end);
  const query = { id, flags, question, labels: name.labels, type, class: view.getUint16(name.end + 2), edns };
  return { kind: 'query', query };
};

/** Undefined when it is not one name in full: nothing stands before a question that it could point to. */
const parseName = (
  bytes: Uint8Array,
  start: number,
): { readonly labels: string[]; readonly end: number } | undefined => {
  const labels: string[] = [];
  for (let at = start; ; ) {
    const length = bytes[at];
    if (length === undefined || length > MAX_LABEL_BYTES) return undefined;
    if (length === 0) return at + 1 - start > MAX_NAME_BYTES ? undefined : { labels, end: at + 1 };
    const end = at + 1 + length;
    if (end >= bytes.length || end - start >= MAX_NAME_BYTES) return undefined;
    labels.push(labelText(bytes.subarray(at + 1, end)));
    at = end;
  }
};

const labelText = (label: Uint8Array): string => {
  let text = '';
  for (const byte of label) {
    if (byte >= 0x41 && byte <= 0x5a) text += String.fromCharCode(byte + 0x20);
    else if (byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c) text += String.fromCharCode(byte);
    else text += `\\${String(byte).padStart(3, '0')}`;
  }
  return text;
};

/** The OPT record among the additional ones, of which nothing may be left over. */
const parseAdditional = (
  bytes: Uint8Array,
  view: DataView,
  start: number,
  count: number,
): Edns | undefined | 'malformed' => {
  let edns: Edns | undefined;
  let at = start;
  for (let i = 0; i < count; i++) {
    const fixed = skipName(bytes, at);
    if (fixed === undefined || fixed + RECORD_FIXED > bytes.length) return 'malformed';
    const end = fixed + RECORD_FIXED + view.getUint16(fixed + 8);
    if (end > bytes.length) return 'malformed';
    if (view.getUint16(fixed) === TYPE_OPT) {
      // One, of the root.
      if (edns !== undefined || fixed !== at + 1) return 'malformed';
      edns = { udpBytes: view.getUint16(fixed + 2), version: view.getUint8(fixed + 5) };
    }
    at = end;
  }
  return at === bytes.length ? edns : 'malformed';
};

/** Where the name ends, which may be cut short by a pointer. */
const skipName = (bytes: Uint8Array, start: number): number | undefined => {
  for (let at = start; ; ) {
    const length = bytes[at];
    if (length === undefined || at - start >= MAX_NAME_BYTES) return undefined;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    if (length > MAX_LABEL_BYTES) return undefined;
    at += 1 + length;
  }
};
