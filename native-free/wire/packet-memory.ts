// One buffer that packets live in, seen as bytes, as 16-bit words and through a DataView, so that the hot path
// makes no view per packet. Every offset in wire/ counts from the start of the buffer: alignment is then known.
// Works alike over an ArrayBuffer, a SharedArrayBuffer and the buffer of a WebAssembly.Memory.

export const HOST_IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

export class PacketMemory {
  readonly bytes: Uint8Array;
  /** Host byte order. An odd last byte of the buffer is not in here. */
  readonly words: Uint16Array;
  readonly view: DataView;

  /** Keeps `buffer`. */
  constructor(buffer: ArrayBufferLike) {
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.view = new DataView(buffer);
  }

  get length(): number {
    return this.bytes.length;
  }

  /** Copies a few bytes (a header) inside the memory; the ranges may overlap. Offsets must be in range. */
  copy(from: number, to: number, length: number): void {
    if (((from | to) & 1) === 0 && to > from + length) {
      const { words } = this;
      const shift = (to - from) >> 1;
      const end = (from + length) >> 1;
      for (let i = from >> 1; i < end; i++) words[i + shift] = words[i] ?? 0;
      if ((length & 1) === 1) this.bytes[to + length - 1] = this.bytes[from + length - 1] ?? 0;
    } else {
      this.bytes.copyWithin(to, from, from + length);
    }
  }
}
