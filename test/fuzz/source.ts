// The input of one execution: bytes that a target draws its decisions from. A target builds what it needs (a packet, a
// history, an argument list) out of draws, so that every byte string means something, mutating bytes changes the
// structure, and a shorter or smaller byte string is a simpler case. Past the end everything is 0.

export class Source {
  readonly bytes: Uint8Array;
  #at = 0;

  /** Borrows `bytes`. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** True when all bytes are used up: loops over "some more" end here. */
  get isEmpty(): boolean {
    return this.#at >= this.bytes.length;
  }

  byte(): number {
    return this.bytes[this.#at++] ?? 0;
  }

  u16(): number {
    return (this.byte() << 8) | this.byte();
  }

  u32(): number {
    return this.u16() * 0x10000 + this.u16();
  }

  /** A whole number from `from` up to and with `to`. */
  between(from: number, to: number): number {
    const span = to - from + 1;
    if (span <= 1) return from;
    const drawn = span <= 0x100 ? this.byte() : span <= 0x10000 ? this.u16() : this.u32();
    return from + (drawn % span);
  }

  /** True in `oneIn` of 256 draws; never past the end. */
  chance(in256: number): boolean {
    return 255 - this.byte() < in256;
  }

  pick<T>(list: readonly T[]): T {
    const picked = list[this.between(0, list.length - 1)];
    if (picked === undefined) throw new RangeError('picked from an empty list');
    return picked;
  }

  /** `length` bytes; zeros past the end. */
  take(length: number): Uint8Array {
    const out = new Uint8Array(length);
    out.set(this.bytes.subarray(this.#at, this.#at + length));
    this.#at += length;
    return out;
  }

  /** Some bytes, at most `most`. */
  some(most: number): Uint8Array {
    return this.take(this.between(0, most));
  }

  /** Numbers that break things: ends of ranges and their neighbours as often as anything else. */
  number(): number {
    return this.chance(96) ? this.pick(EDGES) : this.between(-300, 70_000);
  }

  /** Text of characters that mean something somewhere, now and then any. */
  text(most: number): string {
    let out = '';
    for (let n = this.between(0, most); n > 0; n--)
      out += this.chance(24)
        ? String.fromCharCode(this.u16())
        : (CHARACTERS[this.byte() % CHARACTERS.length] ?? '');
    return out;
  }

  /** One of `good`, changed in a few places or not at all, or any text. */
  textLike(good: readonly string[], most = 80): string {
    const kind = this.between(0, 7);
    if (kind === 0) return this.text(most);
    const text = this.pick(good);
    return kind < 4 ? text : changeText(this, text);
  }

  /** `bytes` with as many changes as are drawn, maybe none: flipped, set, cut out, put in, doubled, cut off. */
  mutated(bytes: Uint8Array, mostChanges = 4): Uint8Array {
    let out: Uint8Array = bytes.slice();
    for (let n = this.between(0, mostChanges); n > 0; n--) out = this.#change(out);
    return out;
  }

  #change(bytes: Uint8Array): Uint8Array {
    const at = this.between(0, Math.max(0, bytes.length - 1));
    const length = this.between(1, 16);
    switch (this.between(0, 6)) {
      case 0:
        return replaced(bytes, at, 1, Uint8Array.of((bytes[at] ?? 0) ^ (1 << this.between(0, 7))));
      case 1:
        return replaced(bytes, at, 1, Uint8Array.of(this.byte()));
      case 2:
        return replaced(bytes, at, 1, Uint8Array.of(this.pick([0, 1, 0x7f, 0x80, 0xff])));
      case 3:
        return replaced(bytes, at, length, new Uint8Array(0));
      case 4:
        return replaced(bytes, at, 0, this.take(length));
      case 5:
        return replaced(bytes, at, 0, bytes.slice(at, at + length));
      default:
        return bytes.slice(0, at);
    }
  }
}

const EDGES = [
  0,
  -0,
  1,
  -1,
  2,
  63,
  64,
  127,
  128,
  255,
  256,
  65_535,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
  1e21,
  1e308,
  0.5,
  -(2 ** 31),
  -(2 ** 53),
] as const;

const CHARACTERS = 'abcxyz0123456789.-_:/%@[]{}()<>=,;+*?!#$&|~^`\'" \\\n\r\t\0ABCXYZ\u00e9\u202e\ud83d';

const replaced = (bytes: Uint8Array, at: number, removed: number, added: Uint8Array): Uint8Array => {
  const rest = bytes.subarray(Math.min(bytes.length, at + removed));
  const out = new Uint8Array(at + added.length + rest.length);
  out.set(bytes.subarray(0, at));
  out.set(added, at);
  out.set(rest, at + added.length);
  return out;
};

const changeText = (source: Source, text: string): string => {
  const at = source.between(0, text.length);
  switch (source.between(0, 4)) {
    case 0:
      return text.slice(0, at) + source.text(4) + text.slice(at + source.between(0, 3));
    case 1:
      return text.slice(0, at);
    case 2:
      return text + text;
    case 3:
      return text.toUpperCase();
    default:
      return text.slice(0, at) + text.slice(at, at + 1).repeat(source.between(2, 300)) + text.slice(at + 1);
  }
};
