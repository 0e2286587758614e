// A strict reader of DER (X.690, section 10), as far as certificates need it: definite, minimal lengths and one-byte
// tags; anything else is malformed. It never reads past its input. Not here: writing DER, or what a value means.

export interface DerValue {
  readonly tag: number;
  /** A view of the contents; keeps the input alive. */
  readonly contents: Uint8Array;
  /** A view of tag, length and contents. */
  readonly encoded: Uint8Array;
}

/** Why a read failed; callers turn it into their own error. */
export class MalformedDer extends Error {}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  sequence: 0x30,
} as const;

/** The values that lie one after another in `bytes`, to its very end. */
export const readValues = (bytes: Uint8Array): DerValue[] => {
  const values: DerValue[] = [];
  for (let at = 0; at < bytes.length; ) {
    const value = readAt(bytes, at);
    values.push(value);
    at += value.encoded.length;
  }
  return values;
};

/** The one value that fills `bytes`, which must have this tag. */
export const readOne = (bytes: Uint8Array, tag: number): DerValue => {
  const value = readAt(bytes, 0);
  if (value.tag !== tag || value.encoded.length !== bytes.length) throw new MalformedDer();
  return value;
};

const readAt = (bytes: Uint8Array, at: number): DerValue => {
  const tag = bytes[at];
  const first = bytes[at + 1];
  if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) throw new MalformedDer();
  let length = first;
  let header = 2;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 3) throw new MalformedDer();
    length = 0;
    for (let i = 0; i < count; i++) {
      const byte = bytes[at + 2 + i];
      if (byte === undefined) throw new MalformedDer();
      length = length * 256 + byte;
    }
    header += count;
    const shortest = length < 0x80 ? 0 : length < 0x100 ? 1 : length < 0x10000 ? 2 : 3;
    if (count !== shortest) throw new MalformedDer();
  }
  const end = at + header + length;
  if (end > bytes.length) throw new MalformedDer();
  return { tag, contents: bytes.subarray(at + header, end), encoded: bytes.subarray(at, end) };
};

/** "2.5.29.17" of an object identifier's contents. */
export const readObjectIdentifier = (contents: Uint8Array): string => {
  const arcs: number[] = [];
  let arc = 0;
  let open = false;
  for (const byte of contents) {
    if (!open && byte === 0x80) throw new MalformedDer();
    arc = arc * 128 + (byte & 0x7f);
    if (arc > Number.MAX_SAFE_INTEGER) throw new MalformedDer();
    open = byte >= 0x80;
    if (open) continue;
    if (arcs.length === 0) {
      const root = Math.min(2, Math.floor(arc / 40));
      arcs.push(root, arc - root * 40);
    } else arcs.push(arc);
    arc = 0;
  }
  if (open || arcs.length === 0) throw new MalformedDer();
  return arcs.join('.');
};

/** The named bits that are set, first bit 0, of a bit string's contents. */
export const readNamedBits = (contents: Uint8Array): ReadonlySet<number> => {
  const [unused, ...bytes] = contents;
  if (unused === undefined || unused > 7 || (bytes.length === 0 && unused !== 0)) throw new MalformedDer();
  const bits = new Set<number>();
  for (const [i, byte] of bytes.entries()) {
    for (let bit = 0; bit < 8; bit++) if (byte & (0x80 >> bit)) bits.add(i * 8 + bit);
  }
  return bits;
};
