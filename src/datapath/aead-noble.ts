// The last AEAD tier: pure TypeScript, for machines where nothing of OpenSSL can be reached. Slow and allocating.

import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import type { Arena } from '../ffi/memory.ts';
import type { Aead } from './aead.ts';

const TAG = 16;
const KEY = 32;

export class NobleAead implements Aead {
  readonly tier = 'noble';
  readonly #bytes: Uint8Array;
  readonly #nonce = new Uint8Array(12);
  readonly #nonceView = new DataView(this.#nonce.buffer);

  constructor(arena: Arena) {
    this.#bytes = arena.bytes;
  }

  seal(key: number, counter: number, from: number, length: number, to: number): void {
    const plaintext = this.#bytes.slice(from, from + length);
    this.#bytes.set(this.#cipher(key, counter).encrypt(plaintext), to);
  }

  open(key: number, counter: number, from: number, length: number, to: number): boolean {
    try {
      const sealed = this.#bytes.slice(from, from + length + TAG);
      this.#bytes.set(this.#cipher(key, counter).decrypt(sealed), to);
      return true;
    } catch {
      return false;
    }
  }

  #cipher(key: number, counter: number): ReturnType<typeof chacha20poly1305> {
    const high = Math.floor(counter / 0x1_0000_0000);
    this.#nonceView.setUint32(4, counter - high * 0x1_0000_0000, true);
    this.#nonceView.setUint32(8, high, true);
    return chacha20poly1305(this.#bytes.slice(key, key + KEY), this.#nonce);
  }
}
