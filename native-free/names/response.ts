// A DNS response, written to a limit: the header, the question as it came, records, and an OPT record if the query had one
// (RFC 1035 4.1, RFC 6891). What does not fit is left out as a whole and TC set, so that the asker comes back by TCP.

import {
  CLASS_IN,
  MAX_TCP_BYTES,
  MAX_UDP_BYTES,
  NOERROR,
  PLAIN_UDP_BYTES,
  TYPE_OPT,
} from './dns-constants.ts';
import {
  AA,
  ADDITIONAL,
  ANSWERS,
  AUTHORITIES,
  FLAGS,
  HEADER_BYTES,
  OPCODE,
  QR,
  QUESTIONS,
  type Query,
  RD,
  TC,
} from './query.ts';

export type Transport = 'udp' | 'tcp';

/** A name in a record: labels of its own, then, maybe, the question's from its n-th label on. */
export interface RecordName {
  readonly labels: readonly string[];
  readonly from?: number;
}

export interface ResourceRecord {
  readonly owner: RecordName;
  readonly type: number;
  /** Seconds. */
  readonly ttl: number;
  readonly data: Uint8Array | RecordName | Soa;
}

/** RFC 1035 3.3.13: primary and mailbox, then five numbers. */
export interface Soa {
  readonly primary: RecordName;
  readonly mailbox: RecordName;
  /** serial, refresh, retry, expire, and how long a negative answer holds. */
  readonly numbers: readonly [number, number, number, number, number];
}

export interface Reply {
  readonly rcode: number;
  /** The answer is this server's own to give. */
  readonly isAuthoritative: boolean;
  readonly answers: readonly ResourceRecord[];
  readonly authorities: readonly ResourceRecord[];
}

const OPT_BYTES = 11;
const POINTER = 0xc000;

/** How long the response to a query may be. */
export const responseLimit = ({ edns }: Query, transport: Transport): number => {
  if (transport === 'tcp') return MAX_TCP_BYTES;
  if (edns === undefined) return PLAIN_UDP_BYTES;
  return Math.min(Math.max(edns.udpBytes, PLAIN_UDP_BYTES), MAX_UDP_BYTES);
};

/** For what is no query: there is no question to repeat. */
export const bareResponse = (id: number, flags: number, rcode: number): Uint8Array => {
  const bytes = new Uint8Array(HEADER_BYTES);
  writeHeader(new DataView(bytes.buffer), id, QR | (flags & (OPCODE | RD)) | rcode, [0, 0, 0, 0]);
  return bytes;
};

export const encodeResponse = (query: Query, reply: Reply, transport: Transport): Uint8Array => {
  const limit = responseLimit(query, transport);
  const whole = write(query, reply, limit, 0);
  return whole ?? write(query, { ...reply, answers: [], authorities: [] }, limit, TC) ?? tooShort(query);
};

const write = (query: Query, reply: Reply, limit: number, truncated: number): Uint8Array | undefined => {
  const { id, question, edns } = query;
  const { answers, authorities } = reply;
  const bytes = new Uint8Array(limit);
  const view = new DataView(bytes.buffer);
  const authority = reply.isAuthoritative ? AA : 0;
  const flags = QR | authority | truncated | (query.flags & (OPCODE | RD)) | (reply.rcode & 0xf);
  writeHeader(view, id, flags, [1, answers.length, authorities.length, edns === undefined ? 0 : 1]);
  bytes.set(question, HEADER_BYTES);
  const optBytes = edns === undefined ? 0 : OPT_BYTES;
  const writer = new Writer(bytes, HEADER_BYTES + question.length, limit - optBytes, offsetsOf(question));
  for (const record of answers) if (!writer.record(record)) return undefined;
  for (const record of authorities) if (!writer.record(record)) return undefined;
  if (edns === undefined) return bytes.subarray(0, writer.end);
  const opt = writer.end;
  if (opt + OPT_BYTES > limit) return undefined;
  view.setUint16(opt + 1, TYPE_OPT);
  view.setUint16(opt + 3, MAX_UDP_BYTES);
  view.setUint8(opt + 5, reply.rcode >> 4);
  return bytes.subarray(0, opt + OPT_BYTES);
};

/** A question always fits: it is at most 259 bytes. */
const tooShort = ({ id, flags }: Query): Uint8Array => bareResponse(id, flags | TC, NOERROR);

const writeHeader = (view: DataView, id: number, flags: number, counts: readonly number[]): void => {
  view.setUint16(0, id);
  view.setUint16(FLAGS, flags);
  for (const [i, at] of [QUESTIONS, ANSWERS, AUTHORITIES, ADDITIONAL].entries())
    view.setUint16(at, counts[i] ?? 0);
};

/** Where in the message each label of the question stands, and the root after them. */
const offsetsOf = (question: Uint8Array): number[] => {
  const offsets: number[] = [];
  let at = 0;
  for (let length = question[0] ?? 0; length !== 0; length = question[at] ?? 0) {
    offsets.push(HEADER_BYTES + at);
    at += 1 + length;
  }
  offsets.push(HEADER_BYTES + at);
  return offsets;
};

class Writer {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #limit: number;
  readonly #labels: readonly number[];
  #end: number;

  constructor(bytes: Uint8Array, start: number, limit: number, labels: readonly number[]) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    this.#limit = limit;
    this.#labels = labels;
    this.#end = start;
  }

  get end(): number {
    return this.#end;
  }

  /** False: it does not fit, and what was written of it does not count. */
  record({ owner, type, ttl, data }: ResourceRecord): boolean {
    const start = this.#end;
    const fits =
      this.#name(owner) && this.#u16(type) && this.#u16(CLASS_IN) && this.#u32(ttl) && this.#data(data);
    if (!fits) this.#end = start;
    return fits;
  }

  #data(data: ResourceRecord['data']): boolean {
    const length = this.#end;
    if (!this.#u16(0)) return false;
    const fits = data instanceof Uint8Array ? this.#raw(data) : this.#fields(data);
    if (fits) this.#view.setUint16(length, this.#end - length - 2);
    return fits;
  }

  #fields(data: RecordName | Soa): boolean {
    if ('labels' in data) return this.#name(data);
    return (
      this.#name(data.primary) &&
      this.#name(data.mailbox) &&
      data.numbers.every((number) => this.#u32(number))
    );
  }

  #name({ labels, from }: RecordName): boolean {
    for (const label of labels) {
      if (!this.#raw(Uint8Array.of(label.length))) return false;
      if (!this.#raw(Uint8Array.from(label, (letter) => letter.charCodeAt(0)))) return false;
    }
    if (from === undefined || from >= this.#labels.length - 1) return this.#raw(Uint8Array.of(0));
    return this.#u16(POINTER | (this.#labels[from] ?? 0));
  }

  #raw(data: Uint8Array): boolean {
    if (this.#end + data.length > this.#limit) return false;
    this.#bytes.set(data, this.#end);
    this.#end += data.length;
    return true;
  }

  #u16(value: number): boolean {
    return this.#raw(Uint8Array.of(value >>> 8, value & 0xff));
  }

  #u32(value: number): boolean {
    return this.#u16(value >>> 16) && this.#u16(value & 0xffff);
  }
}
