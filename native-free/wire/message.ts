// The four WireGuard messages (whitepaper section 5.4): named offsets, one length check (`messageType`), then
// accessors that cannot fail. All integers are little-endian; the type's three reserved bytes are zero, so it reads
// as one u32. Not here: what the fields mean (noise/) and how transport data is sealed in bulk (src/datapath).
//
//   handshake initiation, 148 B                     handshake response, 92 B
//    0 type = 1      u32                             0 type = 2        u32
//    4 sender index  u32                             4 sender index    u32
//    8 ephemeral     32 B                            8 receiver index  u32
//   40 static        32 + 16 B, sealed              12 ephemeral       32 B
//   88 timestamp     12 + 16 B, sealed              44 nothing         0 + 16 B, sealed
//  116 mac1          16 B                           60 mac1            16 B
//  132 mac2          16 B                           76 mac2            16 B
//
//   cookie reply, 64 B                              transport data, 32 B and more
//    0 type = 3        u32                           0 type = 4        u32
//    4 receiver index  u32                           4 receiver index  u32
//    8 nonce           24 B                          8 counter         u64
//   32 cookie          16 + 16 B, sealed            16 packet          n + 16 B, sealed

export const INITIATION_TYPE = 1;
export const RESPONSE_TYPE = 2;
export const COOKIE_REPLY_TYPE = 3;
export const TRANSPORT_TYPE = 4;

export const INITIATION_LENGTH = 148;
export const RESPONSE_LENGTH = 92;
export const COOKIE_REPLY_LENGTH = 64;
export const TRANSPORT_HEADER_LENGTH = 16;
/** A keepalive: a header and the tag of an empty packet. */
export const TRANSPORT_MINIMUM_LENGTH = 32;

export const TYPE_OFFSET = 0;

export const INITIATION_SENDER_OFFSET = 4;
export const INITIATION_EPHEMERAL_OFFSET = 8;
export const INITIATION_STATIC_OFFSET = 40;
export const INITIATION_TIMESTAMP_OFFSET = 88;
export const INITIATION_MAC1_OFFSET = 116;
export const INITIATION_MAC2_OFFSET = 132;

export const RESPONSE_SENDER_OFFSET = 4;
export const RESPONSE_RECEIVER_OFFSET = 8;
export const RESPONSE_EPHEMERAL_OFFSET = 12;
export const RESPONSE_NOTHING_OFFSET = 44;
export const RESPONSE_MAC1_OFFSET = 60;
export const RESPONSE_MAC2_OFFSET = 76;

export const COOKIE_REPLY_RECEIVER_OFFSET = 4;
export const COOKIE_REPLY_NONCE_OFFSET = 8;
export const COOKIE_REPLY_COOKIE_OFFSET = 32;

export const TRANSPORT_RECEIVER_OFFSET = 4;
export const TRANSPORT_COUNTER_OFFSET = 8;
export const TRANSPORT_PACKET_OFFSET = 16;

export type MessageType =
  | typeof INITIATION_TYPE
  | typeof RESPONSE_TYPE
  | typeof COOKIE_REPLY_TYPE
  | typeof TRANSPORT_TYPE;

/** The type of a datagram whose length fits its type; undefined for anything else. Borrows. */
export const messageType = (datagram: Uint8Array): MessageType | undefined => {
  if (datagram.length < TRANSPORT_MINIMUM_LENGTH) return undefined;
  const { length } = datagram;
  switch (readU32(datagram, TYPE_OFFSET)) {
    case INITIATION_TYPE:
      return length === INITIATION_LENGTH ? INITIATION_TYPE : undefined;
    case RESPONSE_TYPE:
      return length === RESPONSE_LENGTH ? RESPONSE_TYPE : undefined;
    case COOKIE_REPLY_TYPE:
      return length === COOKIE_REPLY_LENGTH ? COOKIE_REPLY_TYPE : undefined;
    case TRANSPORT_TYPE:
      return TRANSPORT_TYPE;
    default:
      return undefined;
  }
};

/** A handshake initiation over bytes that it borrows; its accessors return views into them. */
export class Initiation {
  readonly bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  static parse(datagram: Uint8Array): Initiation | undefined {
    return messageType(datagram) === INITIATION_TYPE ? new Initiation(datagram) : undefined;
  }

  static create(sender: number): Initiation {
    const bytes = new Uint8Array(INITIATION_LENGTH);
    bytes[TYPE_OFFSET] = INITIATION_TYPE;
    writeU32(bytes, INITIATION_SENDER_OFFSET, sender);
    return new Initiation(bytes);
  }

  get sender(): number {
    return readU32(this.bytes, INITIATION_SENDER_OFFSET);
  }

  get ephemeral(): Uint8Array {
    return this.bytes.subarray(INITIATION_EPHEMERAL_OFFSET, INITIATION_STATIC_OFFSET);
  }

  get encryptedStatic(): Uint8Array {
    return this.bytes.subarray(INITIATION_STATIC_OFFSET, INITIATION_TIMESTAMP_OFFSET);
  }

  get encryptedTimestamp(): Uint8Array {
    return this.bytes.subarray(INITIATION_TIMESTAMP_OFFSET, INITIATION_MAC1_OFFSET);
  }

  get macs(): Macs {
    return new Macs(this.bytes, INITIATION_MAC1_OFFSET, INITIATION_MAC2_OFFSET);
  }
}

/** A handshake response over bytes that it borrows; its accessors return views into them. */
export class Response {
  readonly bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  static parse(datagram: Uint8Array): Response | undefined {
    return messageType(datagram) === RESPONSE_TYPE ? new Response(datagram) : undefined;
  }

  static create(sender: number, receiver: number): Response {
    const bytes = new Uint8Array(RESPONSE_LENGTH);
    bytes[TYPE_OFFSET] = RESPONSE_TYPE;
    writeU32(bytes, RESPONSE_SENDER_OFFSET, sender);
    writeU32(bytes, RESPONSE_RECEIVER_OFFSET, receiver);
    return new Response(bytes);
  }

  get sender(): number {
    return readU32(this.bytes, RESPONSE_SENDER_OFFSET);
  }

  get receiver(): number {
    return readU32(this.bytes, RESPONSE_RECEIVER_OFFSET);
  }

  get ephemeral(): Uint8Array {
    return this.bytes.subarray(RESPONSE_EPHEMERAL_OFFSET, RESPONSE_NOTHING_OFFSET);
  }

  get encryptedNothing(): Uint8Array {
    return this.bytes.subarray(RESPONSE_NOTHING_OFFSET, RESPONSE_MAC1_OFFSET);
  }

  get macs(): Macs {
    return new Macs(this.bytes, RESPONSE_MAC1_OFFSET, RESPONSE_MAC2_OFFSET);
  }
}

/** The two macs at the end of an initiation or a response. */
export class Macs {
  /** Of the whole message; a mac covers all that stands before it. */
  readonly bytes: Uint8Array;
  readonly mac1Offset: number;
  readonly mac2Offset: number;

  constructor(bytes: Uint8Array, mac1Offset: number, mac2Offset: number) {
    this.bytes = bytes;
    this.mac1Offset = mac1Offset;
    this.mac2Offset = mac2Offset;
  }

  /** What mac1 covers. */
  get beforeMac1(): Uint8Array {
    return this.bytes.subarray(0, this.mac1Offset);
  }

  get mac1(): Uint8Array {
    return this.bytes.subarray(this.mac1Offset, this.mac2Offset);
  }

  /** What mac2 covers. */
  get beforeMac2(): Uint8Array {
    return this.bytes.subarray(0, this.mac2Offset);
  }

  get mac2(): Uint8Array {
    return this.bytes.subarray(this.mac2Offset);
  }

  /** Whether there is a mac2 at all: who has no cookie leaves it zero. */
  get hasMac2(): boolean {
    let any = 0;
    for (let i = this.mac2Offset; i < this.bytes.length; i++) any |= this.bytes[i] ?? 0;
    return any !== 0;
  }
}

/** A cookie reply over bytes that it borrows; its accessors return views into them. */
export class CookieReply {
  readonly bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  static parse(datagram: Uint8Array): CookieReply | undefined {
    return messageType(datagram) === COOKIE_REPLY_TYPE ? new CookieReply(datagram) : undefined;
  }

  static create(receiver: number): CookieReply {
    const bytes = new Uint8Array(COOKIE_REPLY_LENGTH);
    bytes[TYPE_OFFSET] = COOKIE_REPLY_TYPE;
    writeU32(bytes, COOKIE_REPLY_RECEIVER_OFFSET, receiver);
    return new CookieReply(bytes);
  }

  get receiver(): number {
    return readU32(this.bytes, COOKIE_REPLY_RECEIVER_OFFSET);
  }

  get nonce(): Uint8Array {
    return this.bytes.subarray(COOKIE_REPLY_NONCE_OFFSET, COOKIE_REPLY_COOKIE_OFFSET);
  }

  get encryptedCookie(): Uint8Array {
    return this.bytes.subarray(COOKIE_REPLY_COOKIE_OFFSET);
  }
}

/** Transport data over bytes that it borrows; its accessors return views into them. */
export class Transport {
  readonly bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  static parse(datagram: Uint8Array): Transport | undefined {
    return messageType(datagram) === TRANSPORT_TYPE ? new Transport(datagram) : undefined;
  }

  /** A header with room for `sealedLength` bytes of sealed packet. */
  static create(receiver: number, counter: number, sealedLength: number): Transport {
    const bytes = new Uint8Array(TRANSPORT_HEADER_LENGTH + sealedLength);
    bytes[TYPE_OFFSET] = TRANSPORT_TYPE;
    writeU32(bytes, TRANSPORT_RECEIVER_OFFSET, receiver);
    writeU32(bytes, TRANSPORT_COUNTER_OFFSET, counter % 2 ** 32);
    writeU32(bytes, TRANSPORT_COUNTER_OFFSET + 4, Math.floor(counter / 2 ** 32));
    return new Transport(bytes);
  }

  get receiver(): number {
    return readU32(this.bytes, TRANSPORT_RECEIVER_OFFSET);
  }

  /** The counter comes as two halves, since a Number is exact only to 2^53. */
  get counterLow(): number {
    return readU32(this.bytes, TRANSPORT_COUNTER_OFFSET);
  }

  get counterHigh(): number {
    return readU32(this.bytes, TRANSPORT_COUNTER_OFFSET + 4);
  }

  get sealedPacket(): Uint8Array {
    return this.bytes.subarray(TRANSPORT_PACKET_OFFSET);
  }
}

function readU32(bytes: Uint8Array, offset: number): number {
  const b0 = bytes[offset] ?? 0;
  const b1 = bytes[offset + 1] ?? 0;
  const b2 = bytes[offset + 2] ?? 0;
  const b3 = bytes[offset + 3] ?? 0;
  return (b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)) >>> 0;
}

function writeU32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
  bytes[offset + 2] = value >>> 16;
  bytes[offset + 3] = value >>> 24;
}
