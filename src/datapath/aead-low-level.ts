// The AEAD tier by OpenSSL's bare ChaCha20 and Poly1305, four calls a packet. One ChaCha20 call makes both the
// one-time key (block 0, over 64 zero bytes put before the text) and the text; the padding and lengths that RFC 8439
// section 2.8 feeds to Poly1305 are written after the ciphertext, so that one update covers everything.

import type { Arena } from '../ffi/memory.ts';
import type { LowLevelOpenssl } from '../ffi/openssl.ts';
import type { Aead } from './aead.ts';

const BLOCK = 64;
const TAG = 16;
/** More than any OpenSSL's struct poly1305_context (248 B in 3.5). */
const MAX_CONTEXT = 1024;

export class LowLevelAead implements Aead {
  readonly tier = 'openssl-low-level';
  readonly #openssl: LowLevelOpenssl;
  readonly #view: DataView;
  readonly #base: number;
  readonly #counter: number;
  readonly #context: number;
  readonly #tag: number;

  static create(arena: Arena, openssl: LowLevelOpenssl): LowLevelAead | undefined {
    return openssl.poly1305ContextSize() <= MAX_CONTEXT ? new LowLevelAead(arena, openssl) : undefined;
  }

  private constructor(arena: Arena, openssl: LowLevelOpenssl) {
    this.#openssl = openssl;
    this.#view = arena.view;
    this.#base = arena.address;
    this.#counter = arena.allocate(16);
    this.#tag = arena.allocate(TAG);
    this.#context = arena.address + arena.allocate(MAX_CONTEXT);
  }

  seal(key: number, counter: number, from: number, length: number, to: number): void {
    const base = this.#base;
    this.#stream(key, counter, from, length, to);
    const covered = this.#writeLengths(to, length);
    this.#openssl.poly1305Init(this.#context, base + to - BLOCK);
    this.#openssl.poly1305Update(this.#context, base + to, covered);
    this.#openssl.poly1305Final(this.#context, base + to + length);
  }

  open(key: number, counter: number, from: number, length: number, to: number): boolean {
    const base = this.#base;
    const view = this.#view;
    const end = from + length;
    // The tag, and what may stand behind it (the next message's header), give way to padding and lengths.
    const tag0 = view.getUint32(end, true);
    const tag1 = view.getUint32(end + 4, true);
    const tag2 = view.getUint32(end + 8, true);
    const tag3 = view.getUint32(end + 12, true);
    const next0 = view.getFloat64(end + 16, true);
    const next1 = view.getFloat64(end + 24, true);

    this.#stream(key, counter, from, length, to);
    const covered = this.#writeLengths(from, length);
    this.#openssl.poly1305Init(this.#context, base + to - BLOCK);
    this.#openssl.poly1305Update(this.#context, base + from, covered);
    this.#openssl.poly1305Final(this.#context, base + this.#tag);

    view.setFloat64(end + 16, next0, true);
    view.setFloat64(end + 24, next1, true);
    const tag = this.#tag;
    return (
      ((tag0 ^ view.getUint32(tag, true)) |
        (tag1 ^ view.getUint32(tag + 4, true)) |
        (tag2 ^ view.getUint32(tag + 8, true)) |
        (tag3 ^ view.getUint32(tag + 12, true))) ===
      0
    );
  }

  /** XORs the key stream over 64 zero bytes and the text behind them; `to - 64` then holds the one-time key. */
  #stream(key: number, counter: number, from: number, length: number, to: number): void {
    const view = this.#view;
    for (let at = from - BLOCK; at < from; at += 8) view.setFloat64(at, 0, true);
    const high = Math.floor(counter / 0x1_0000_0000);
    view.setUint32(this.#counter + 8, counter - high * 0x1_0000_0000, true);
    view.setUint32(this.#counter + 12, high, true);
    const base = this.#base;
    this.#openssl.chacha20(
      base + to - BLOCK,
      base + from - BLOCK,
      length + BLOCK,
      base + key,
      base + this.#counter,
    );
  }

  /** Pads the ciphertext to 16 and appends the lengths of the associated data (0) and of itself. */
  #writeLengths(at: number, length: number): number {
    const view = this.#view;
    const end = at + length;
    view.setFloat64(end, 0, true);
    view.setFloat64(end + 8, 0, true);
    const padded = (length + 15) & ~15;
    view.setFloat64(at + padded, 0, true);
    view.setUint32(at + padded + 8, length, true);
    view.setUint32(at + padded + 12, 0, true);
    return padded + 16;
  }
}
