// One buffer that packets live in, seen as bytes, as words of 16 and 32 bits and through a DataView, so that the hot
// path makes no view per packet. Every offset in wire/ counts from the start of the buffer: alignment is then known.
// Works alike over an ArrayBuffer, a SharedArrayBuffer and the buffer of a WebAssembly.Memory.

import { type BlockSum, blockSumOf } from './block-sum.ts';

export const HOST_IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

export class PacketMemory {
  readonly bytes: Uint8Array;
  /** In host byte order, as are `words`; the last bytes of a buffer that is no multiple of four are not in them. */
  readonly halfWords: Uint16Array;
  readonly words: Int32Array;
  readonly view: DataView;
  /** Vector code for checksums, if it can be had. */
  readonly blockSum: BlockSum | undefined;

  /** Keeps `buffer`. `alias`: the same memory, to WebAssembly. */
  constructor(buffer: ArrayBufferLike, alias?: WebAssembly.Memory) {
    this.blockSum = alias === undefined ? undefined : blockSumOf(alias);
    this.bytes = new Uint8Array(buffer);
    this.halfWords = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.words = new Int32Array(buffer, 0, buffer.byteLength >>> 2);
    this.view = new DataView(buffer);
  }

  get length(): number {
    return this.bytes.length;
  }

  /** Copies a few bytes (headers) inside the memory; the ranges may overlap. Both must be in range. */
  copy(from: number, to: number, length: number): void {
    if (((from | to | length) & 3) === 0 && to >= from + length) {
      // Below some 100 bytes a loop beats the call of copyWithin.
      const { words } = this;
      const shift = (to - from) >> 2;
      const end = (from + length) >> 2;
      for (let i = from >> 2; i < end; i++) words[i + shift] = words[i] ?? 0;
    } else {
      this.bytes.copyWithin(to, from, from + length);
    }
  }
}
